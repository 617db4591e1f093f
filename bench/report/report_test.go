package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = float64(i + 1)
	}
	for _, tc := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]float64{7}, 0.99, 7}, {[]float64{2, 1}, 0.5, 1}, {[]float64{3, 1, 2}, 0.99, 3},
	} {
		if got := Quantile(tc.values, tc.q); got != tc.want {
			t.Errorf("quantile %g of %d values: %g, want %g", tc.q, len(tc.values), got, tc.want)
		}
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing: %g", got)
	}
	if hundred[0] != 100 {
		t.Error("the values were sorted in place")
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 3, 2}, 9: {9}} {
		if got := Median(values); got != want {
			t.Errorf("median of %v: %g, want %g", values, got, want)
		}
	}
	if s := SpreadOf([]float64{3, 1, 8}); s != (Spread{3, 1, 8, 3}) {
		t.Errorf("spread: %+v", s)
	}
	if s := SpreadOf(nil); s.N != 0 || !math.IsNaN(s.Median) {
		t.Errorf("spread of nothing: %+v", s)
	}
}

func TestFormat(t *testing.T) {
	for _, tc := range []struct {
		unit  Unit
		value float64
		want  string
	}{
		{Seconds, 19.74, "19.7 s"}, {Seconds, 185.5, "186 s"}, {Seconds, 0.874, "0.87 s"}, {Seconds, 9.999, "10.0 s"}, {Seconds, 99.96, "100 s"},
		{Milliseconds, 0.0297, "29.7 ms"}, {Megabytes, 1.254e9, "1254 MB"}, {Count, 2.0204, "2.02"}, {Count, 3, "3"}, {Percent, 0.0864, "8.64 %"}, {Count, math.NaN(), "-"},
	} {
		if got := tc.unit.Format(tc.value); got != tc.want {
			t.Errorf("%g: %q, want %q", tc.value, got, tc.want)
		}
	}
}

// results returns three repetitions of U16 and E, where E takes a third of the
// time, one of U2, which is slower but needs less memory, and U0 on fewer
// nodes.
func results() *Results {
	r := &Results{Nodes: 5000, Burst: 200, Serial: 200, Idle: 100, Foreign: 10_000, Versions: map[string]string{"kubernetes": "v1.37.2"}}
	add := func(system string, repetition, nodes int, phase string, m Metrics) {
		r.Samples = append(r.Samples, Sample{system, repetition, nodes, phase, m})
	}
	for i, k := range []float64{1, 0.9, 1.2} {
		add("U16", i, 5000, "coverage", Metrics{"time": 30 * k, "running": 29 * k, "peakRSS": 400e6, "writes": 10000, "pods": 5000})
		add("U16", i, 5000, "rollout", Metrics{"time": 60 * k, "peakRSS": 600e6 * k})
		add("P", i, 5000, "rollout", Metrics{"time": 10 * k, "writes": 11000, "pods": 5000})
		add("P", i, 5000, "coverage", Metrics{"writes": 5502, "pods": 5000})
		add("I", i, 5000, "coverage", Metrics{"time": 6 * k})
		add("E", i, 5000, "coverage", Metrics{"time": 10 * k, "running": 9 * k, "peakRSS": 50e6, "writes": 5002, "pods": 5000, "cpu": 3, "cpuServer": 24})
	}
	add("B", 0, 5000, "coverage", Metrics{"time": 12, "cpu": 2, "cpuServer": 20})
	add("U2", 0, 5000, "foreign", Metrics{"cpu": 7, "cpu.kube-scheduler": 3, "cpu.kube-controller-manager": 4})
	add("E", 0, 5000, "foreign", Metrics{"cpu": 0.04, "cpu.everynode": 0.04})
	add("R", 0, 5000, "coverage", Metrics{"time": 8, "running": 8})
	add("U2", 0, 5000, "coverage", Metrics{"time": 33, "running": 32, "peakRSS": 300e6})
	add("U0", 0, 1000, "coverage", Metrics{"time": 50, "running": 49})
	add("E", 0, 1000, "coverage", Metrics{"time": 2, "running": 2})
	return r
}

// line returns the cells of the table's line that begins with label.
func line(t *testing.T, table, label string) []string {
	t.Helper()
	for _, l := range strings.Split(table, "\n") {
		if rest, ok := strings.CutPrefix(l, label); ok {
			return strings.FieldsFunc(strings.ReplaceAll(strings.TrimSpace(rest), "  ", "\t"), func(r rune) bool { return r == '\t' })
		}
	}
	t.Fatalf("no line %q in\n%s", label, table)
	return nil
}

func TestTable(t *testing.T) {
	table := Table(results())
	for label, want := range map[string]string{
		"cold coverage: all pods available in the status":       "8 s|33 s|30 s [27-36]|10 s [9-12]|3x|1.25x|-|-|6 s [5.40-7.20]|5x|12 s|0.83x",
		"cold coverage: all pods running":                       "8 s|32 s|29 s [26.1-34.8]|9 s [8.10-10.8]|3.22x|1.12x|-|-|-|-|-|-",
		"  API writes per pod":                                  "-|-|2 [2-2]|1.00 [1.00-1.00]|2.00x|-|1.10 [1.10-1.10]|1.10x|-|-|-|-",
		"  processor time as a share of theirs":                 "-|-|-|12.5 % [12.5-12.5]|-|-|-|-|-|-|10 %|1.25x",
		"peak memory (VmHWM)":                                   "-|300 MB|600 MB [540-720]|50 MB [50-50]|6x|-|-|-|-|-|-|-",
		"10000 pods of Deployments change once: processor time": "-|4 s|-|0.04 s|100x|-|-|-|-|-|-|-",
		"as shipped (U0), 1000 nodes: all pods available":       "-|50 s|-|2 s|25x|-|-|-|-|-|-|-",
	} {
		cells := line(t, table, label)
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if got := strings.Join(cells, "|"); got != want {
			t.Errorf("%s: %s, want %s", label, got, want)
		}
	}
	r := results()
	for i := range r.Samples {
		r.Samples[i].Nodes = 5000
	}
	if cells := line(t, Table(r), "as shipped (U0), 5000 nodes: all pods available"); strings.TrimSpace(cells[1]) != "50 s" {
		t.Errorf("as shipped on as many nodes as all others: %q", cells)
	}
	if strings.Contains(table, "join") {
		t.Error("a phase that was not run is in the table")
	}
}

func TestDisturbance(t *testing.T) {
	r := &Results{Machine: Machine{CPUs: 2}, Samples: []Sample{
		{System: "E", Metrics: Metrics{"elapsed": 10, "cpuOthers": 1}}, {System: "E", Metrics: Metrics{"elapsed": 10, "cpuOthers": 9}},
		{System: "R", Metrics: Metrics{"elapsed": 5}}, {System: "U2", Metrics: Metrics{}}}}
	if got := Disturbance(r); !strings.Contains(got, ": R 0%, E 25% of") {
		t.Error(got)
	}
}

func TestPlot(t *testing.T) {
	r := results()
	r.Versions["kubernetes"] = "<v1 & more>"
	plot := Plot(r)
	bars, decoder := 0, xml.NewDecoder(strings.NewReader(plot))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal("the plot is not XML: ", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			for _, a := range e.Attr {
				if a.Name.Local == "fill" && a.Value == "#2b6cb0" {
					bars++
				}
			}
		}
	}
	if bars != 6 {
		t.Errorf("%d bars of ours, want one for each row that both have: 6", bars)
	}
	if !strings.Contains(plot, ">3.22x<") {
		t.Error("the ratio of cold coverage is missing")
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	var out strings.Builder
	want := results()
	if err := Write(&out, dir, want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got Results
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if Table(&got) != Table(want) || out.String() != Table(want) {
		t.Error("the table of what was written is another")
	}
	if _, err := os.Stat(filepath.Join(dir, "bench.svg")); err != nil {
		t.Error(err)
	}
}
