package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/version"
)

func TestRefuseNewer(t *testing.T) {
	for _, c := range []struct {
		major, minor string
		allow        bool
		refused      string
	}{
		{"1", "30", false, ""},
		{"1", "37", false, ""},
		{"1", "38+", false, ""},
		{"1", "39", false, "--allow-newer-server"},
		{"1", "39", true, ""},
		{"2", "0", true, "does not know"},
		{"1", "", false, "does not know"},
	} {
		info := &version.Info{Major: c.major, Minor: c.minor, GitVersion: "v" + c.major + "." + c.minor + ".0"}
		err := refuseNewer(info, c.allow)
		if got := fmt.Sprint(err); (err != nil) != (c.refused != "") || !strings.Contains(got, c.refused) && err != nil {
			t.Errorf("server %s.%s, allow %v: %v, want %q", c.major, c.minor, c.allow, err, c.refused)
		}
	}
}

// The constant matches the module that the types come from.
func TestTypesMinor(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("k8s.io/api => k8s.io/api v0.%d.", typesMinor); !strings.Contains(string(mod), want) {
		t.Errorf("go.mod has no %q: typesMinor and the module differ", want)
	}
}
