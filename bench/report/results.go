// Package report turns measurements into figures that can be compared: a table,
// a plot, and a file to keep. It does not depend on Kubernetes.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Results is one whole measurement.
type Results struct {
	Started   time.Time         `json:"started"`
	Seconds   float64           `json:"seconds"`
	Machine   Machine           `json:"machine"`
	Versions  map[string]string `json:"versions"`
	Nodes     int               `json:"nodes"`
	NodeBytes int               `json:"nodeBytes"` // of one node, encoded
	Idle      int               `json:"idleDaemonSets"`
	Burst     int               `json:"burst"`
	Serial    int               `json:"serial"`
	Real      int               `json:"real"`
	Foreign   int               `json:"foreignPods"`
	Bare      string            `json:"bareClient"`
	Samples   []Sample          `json:"samples"`
}

// Machine is the machine that the figures were measured on.
type Machine struct {
	CPUs        int    `json:"cpus"`
	Model       string `json:"model"`
	MemoryBytes uint64 `json:"memoryBytes"`
	Kernel      string `json:"kernel"`
	LoadAtEnd   string `json:"loadAtEnd"`
}

// Sample is the figures of one phase in one repetition with one system.
type Sample struct {
	System     string  `json:"system"`
	Repetition int     `json:"repetition"` // from 0
	Nodes      int     `json:"nodes"`
	Phase      string  `json:"phase"`
	Metrics    Metrics `json:"metrics"`
}

// Metrics are figures by name. Times are in seconds, memory in bytes.
type Metrics map[string]float64

// Quantiles sets p50, p99 and max of the times of single events.
func (m Metrics) Quantiles(times []float64) {
	m["p50"], m["p99"], m["max"] = Quantile(times, 0.5), Quantile(times, 0.99), Quantile(times, 1)
}

// Short returns the figures in one line, without the figures of single
// processes.
func (m Metrics) Short() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if strings.Contains(name, ".") {
			continue
		}
		value := m[name]
		text := fmt.Sprintf("%.4g", value)
		if strings.HasPrefix(name, "peak") {
			text = fmt.Sprintf("%.0fMB", value/1e6)
		}
		parts = append(parts, name+"="+text)
	}
	return strings.Join(parts, " ")
}

// Write prints the table, and writes it to dir as table.txt, with the samples in
// bench.json and a plot in bench.svg.
func Write(out io.Writer, dir string, r *Results) error {
	table := Table(r)
	if _, err := io.WriteString(out, table); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of results: %w", err)
	}
	for name, text := range map[string]string{"table.txt": table, "bench.json": string(data) + "\n", "bench.svg": Plot(r)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
}
