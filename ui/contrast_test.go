package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// leastContrast is what WCAG asks of graphics that one must see to understand something (1.4.11).
const leastContrast = 3

// Signs are told from what they are drawn on, in both schemes: no checker of pages sees into a canvas.
func TestContrast(t *testing.T) {
	style, err := os.ReadFile(filepath.Join("src", "style.css"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`(?s):root(?::not\(\.paper\))? \{(.*?)\}`).FindAllSubmatch(style, 2)
	if len(blocks) != 2 {
		t.Fatalf("%d schemes, want light and dark", len(blocks))
	}
	for i, scheme := range []string{"light", "dark"} {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): #([0-9a-f]{6});`).FindAllSubmatch(blocks[i][1], -1) {
			colours[string(m[1])] = luminance(t, string(m[2]))
		}
		for _, state := range []string{"new", "old", "starting", "waiting", "down", "failing", "not-meant"} {
			for _, ground := range []string{"paper", "surface", "hover"} {
				a, known := colours[state]
				b, too := colours[ground]
				if !known || !too {
					t.Fatalf("%s has no --%s or no --%s", scheme, state, ground)
				}
				if c := (max(a, b) + 0.05) / (min(a, b) + 0.05); c < leastContrast {
					t.Errorf("%s: --%s on --%s has a contrast of %.2f, at least %d", scheme, state, ground, c, leastContrast)
				}
			}
		}
	}
}

// luminance returns the relative luminance of WCAG of a colour in sRGB.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(colour, 16, 32)
	if err != nil {
		t.Fatal(fmt.Errorf("colour %s: %w", colour, err))
	}
	linear := func(shift int) float64 {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(16) + 0.7152*linear(8) + 0.0722*linear(0)
}
