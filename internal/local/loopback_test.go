package local

import (
	"net"
	"net/netip"
	"testing"
)

// A cluster on loopback takes a free port, has no nodes, and leaves the machine alone.
func TestClusterOnLoopback(t *testing.T) {
	usual, err := net.Listen("tcp", "127.0.0.1:6443")
	if err == nil { // otherwise another program has it, which serves as well
		defer usual.Close()
	}
	dir := t.TempDir()
	c, err := Create(dir, Options{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	at := c.APIAddress()
	if !at.Addr().IsLoopback() || at.Port() == defaultAPIPort || !free(at) {
		t.Errorf("the API server is to listen on %s, want a free port of loopback", at)
	}
	if _, err := c.AddNode("node-1", Size{}); err == nil {
		t.Error("it takes a node, which could not reach the API server")
	}
	if err := c.Host().Ensure(t.Context()); err != nil {
		t.Error(err)
	}
	if list, err := mountsBelow(c.runDir()); err != nil || len(list) > 0 {
		t.Errorf("it mounted %v (%v)", list, err)
	}
	if again, err := Open(dir); err != nil || again.APIAddress() != at {
		t.Errorf("opened again, it is at %v (%v), want %v", again, err, at)
	}
	c.Nodes = []Node{{Name: "node-1", Index: 1, Address: c.nodeAddress(1)}}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a record of a node on loopback was read")
	}
}

func TestLastPodRange(t *testing.T) {
	for pods, want := range map[string]string{
		"10.42.0.0/16": "10.42.255.0/24", "172.24.0.0/14": "172.27.255.0/24", "10.42.16.0/20": "10.42.31.0/24", "10.1.2.0/24": "10.1.2.0/24",
	} {
		c := &Cluster{PodCIDR: netip.MustParsePrefix(pods)}
		if got := c.LastPodRange().String(); got != want {
			t.Errorf("the last range of %s is %s, want %s", pods, got, want)
		}
	}
}
