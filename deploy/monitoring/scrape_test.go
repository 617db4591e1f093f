package monitoring_test

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v2"
)

// TestScrape: with the settings that docs/monitoring.md prints, Prometheus scrapes the controller's pods at the port of the metrics,
// whether their addresses are IPv4 or IPv6, and no other pods.
func TestScrape(t *testing.T) {
	page, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```yaml\nscrape_configs:\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		t.Fatal("the page has no scrape_configs")
	}
	var jobs []struct {
		Rules []*relabel.Config `yaml:"relabel_configs"`
	}
	if err := yaml.Unmarshal([]byte(block), &jobs); err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs: %v", len(jobs), err)
	}
	for _, rule := range jobs[0].Rules {
		rule.NameValidationScheme = model.UTF8Validation
	}
	for _, c := range []struct{ name, ip, address, want string }{
		{"everynode-controller", "192.0.2.1", "192.0.2.1", "192.0.2.1:10261"},
		{"everynode-controller", "192.0.2.1", "192.0.2.1:8080", "192.0.2.1:10261"},
		{"everynode-controller", "2001:db8::1", "2001:db8::1", "[2001:db8::1]:10261"},
		{"everynode-controller", "2001:db8::1", "[2001:db8::1]:8080", "[2001:db8::1]:10261"},
		{"other", "192.0.2.1", "192.0.2.1", ""},
	} {
		got := labels.NewBuilder(labels.FromStrings("__address__", c.address, "__meta_kubernetes_pod_ip", c.ip,
			"__meta_kubernetes_pod_label_app_kubernetes_io_name", c.name))
		keep := relabel.ProcessBuilder(got, jobs[0].Rules...)
		if keep != (c.want != "") || keep && got.Get("__address__") != c.want {
			t.Errorf("%s at %s is scraped at %s, want %q", c.name, c.address, got.Get("__address__"), c.want)
		}
	}
}
