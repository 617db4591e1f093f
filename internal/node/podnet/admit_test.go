package podnet

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// aged is a Node that was created so many minutes after the first.
func aged(minutes int, name, pods, addr string) *corev1.Node {
	n := testNode(name, pods, addr)
	n.CreationTimestamp = metav1.NewTime(time.Unix(1_000_000, 0).Add(time.Duration(minutes) * time.Minute))
	return n
}

func testBounds() bounds {
	return bounds{
		pods:     netip.MustParsePrefix("10.42.0.0/16"),
		machines: []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.22"), netip.MustParseAddr("10.42.9.9")},
	}
}

// A node that lies about its pods gets no route, and the others keep theirs.
func TestAdmitRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, pods, addr string
		want             string
	}{
		{"half of the world", "0.0.0.0/1", "192.0.2.66", "is not in that of the cluster"},
		{"a server", "192.0.2.10/32", "192.0.2.66", "is not in that of the cluster"},
		{"a service", "10.96.0.1/32", "192.0.2.66", "is not in that of the cluster"},
		{"all pods", "10.42.0.0/16", "192.0.2.66", "wider than a node may have"},
		{"two shares", "10.42.6.0/23", "192.0.2.66", "wider than a node may have"},
		{"half of the victim's", "10.42.1.0/25", "192.0.2.66", "overlaps 10.42.1.0/24 of node victim"},
		{"one pod of ours", "10.42.2.7/32", "192.0.2.66", "overlaps 10.42.2.0/24 of node bystander"},
		{"a machine's address", "10.42.9.0/24", "192.0.2.66", "contains the address 10.42.9.9 of a machine"},
		{"an older node's address", "10.42.8.0/24", "192.0.2.66", "contains the address 10.42.8.1 of node strange"},
		{"pods at the victim's address", "10.42.7.0/24", "192.0.2.21", "is that of node victim"},
		{"pods at our address", "10.42.7.0/24", "192.0.2.22", "is that of node bystander"},
		{"honest", "10.42.7.0/24", "192.0.2.66", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peers := peersOf([]*corev1.Node{
				aged(9, "a-liar", tt.pods, tt.addr), aged(0, "victim", "10.42.1.0/24", "192.0.2.21"),
				aged(10, "bystander", "10.42.2.0/24", "192.0.2.22"), aged(1, "strange", "", "10.42.8.1"),
			})
			admitted, refused := testBounds().admit("bystander", peers)
			if got := refused["a-liar"]; tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("refused because %q, want %q", got, tt.want)
			}
			routes, ranges := []route{testRoute("10.42.1.0/24", "192.0.2.21")}, "[10.42.1.0/24 10.42.2.0/24]"
			if tt.want == "" {
				routes, ranges = append([]route{testRoute(tt.pods, tt.addr)}, routes...), "[10.42.1.0/24 10.42.2.0/24 10.42.7.0/24]"
			}
			if diff := cmp.Diff(routes, wantedRoutes("bystander", admitted), compareAddrs()); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
			if got := podRanges(admitted); strings.Join(strings.Fields(prefixes(got)), " ") != ranges {
				t.Errorf("never masqueraded: %v, want %s", got, ranges)
			}
		})
	}
}

func prefixes(list []netip.Prefix) string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return "[" + strings.Join(texts, " ") + "]"
}

// Simulated nodes share an address. A young node that claims what an older one has
// takes nothing from it.
func TestAdmitSharedAddresses(t *testing.T) {
	peers := peersOf([]*corev1.Node{
		aged(0, "sim-1", "10.42.3.0/24", "127.0.0.1"), aged(0, "sim-2", "10.42.4.0/24", "127.0.0.1"),
		aged(2, "a-young", "10.42.5.0/24", "192.0.2.5"), aged(1, "old", "10.42.5.0/24", "192.0.2.6"),
	})
	admitted, refused := testBounds().admit("none", peers)
	if len(refused) != 1 || !strings.Contains(refused["a-young"], "of node old") {
		t.Errorf("refused: %v", refused)
	}
	if diff := cmp.Diff([]route{testRoute("10.42.5.0/24", "192.0.2.6")}, wantedRoutes("none", admitted), compareAddrs()); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

// A refusal is logged once, and once more if it returns.
func TestAdmitLogsOnce(t *testing.T) {
	var log bytes.Buffer
	n := &Network{Options: Options{Node: "bystander", Log: slog.New(slog.NewTextHandler(&log, nil)), Machines: func() []netip.Addr { return nil }}, bounds: testBounds()}
	good, bad := aged(0, "victim", "10.42.1.0/24", "192.0.2.21"), aged(1, "evil", "0.0.0.0/1", "192.0.2.66")
	said := func() int { return strings.Count(log.String(), "node=evil") }
	for range 3 {
		n.admit(peersOf([]*corev1.Node{good, bad}))
	}
	if said() != 1 {
		t.Errorf("said %d times:\n%s", said(), &log)
	}
	n.admit(peersOf([]*corev1.Node{good}))
	n.admit(peersOf([]*corev1.Node{good, bad}))
	if said() != 2 || strings.Contains(log.String(), "node=victim") {
		t.Errorf("said %d times after it came back:\n%s", said(), &log)
	}
}
