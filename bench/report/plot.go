package report

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of the plot, in pixels.
const (
	plotWidth   = 860
	labelLeft   = 10
	labelWidth  = 330
	barsWidth   = 330
	barHeight   = 11
	rowGap      = 14
	plotTop     = 56
	textBelow   = 9 // from the top of a bar to the baseline of its text
	spreadWidth = 1
)

// bar is one system of a row.
type bar struct {
	name, color string
	spread      Spread
}

// Plot returns the table as an SVG image: for each row one bar for each system,
// relative to the row's longest, with the spread as a thin line.
func Plot(r *Results) string {
	var body strings.Builder
	y := plotTop
	for _, row := range Rows(r) {
		bars := []bar{{"R", "#9aa5b1", row.Of(r, "R")}, {"U", "#d9822b", row.Upstream(r)}, {"E", "#2b6cb0", row.Of(r, "E")}}
		if bars[1].spread.N == 0 || bars[2].spread.N == 0 {
			continue
		}
		y = drawRow(&body, row, bars, y) + rowGap
	}
	title := fmt.Sprintf("%d nodes, %d processors, Kubernetes %s", r.Nodes, r.Machine.CPUs, r.Versions["kubernetes"])
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="11">
<rect width="100%%" height="100%%" fill="#ffffff"/>
<text x="10" y="20" font-size="14" font-weight="bold">%s</text>
<text x="10" y="38" fill="#52606d">less is better; each row has a scale of its own; R bare client, U upstream at its best, E everynode; thin line: least to greatest</text>
%s</svg>
`, plotWidth, y, html.EscapeString(title), body.String())
}

// drawRow draws a row from y on, and returns where it ends.
func drawRow(b *strings.Builder, row Row, bars []bar, y int) int {
	longest := 0.0
	for _, bar := range bars {
		if bar.spread.N > 0 {
			longest = max(longest, bar.spread.Max)
		}
	}
	if longest == 0 {
		longest = 1
	}
	scale := func(v float64) float64 { return v / longest * barsWidth }
	label := strings.TrimLeft(row.Label, " ")
	indent := labelLeft + 6*(len(row.Label)-len(label))
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", indent, y+textBelow, html.EscapeString(label))
	ours, theirs := bars[2].spread, bars[1].spread
	if text := ratio(theirs, ours); text != "-" {
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" font-weight="bold">%s</text>`+"\n", plotWidth-10, y+textBelow, text)
	}
	for _, bar := range bars {
		s := bar.spread
		if s.N == 0 {
			continue
		}
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, max(scale(s.Median), 1), barHeight-1, bar.color)
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#1f2933"/>`+"\n",
			labelWidth+scale(s.Min), y+barHeight/2, scale(s.Max-s.Min), spreadWidth)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="#323f4b">%s %s</text>`+"\n", labelWidth+scale(s.Max)+5, y+textBelow, bar.name, row.Unit.Format(s.Median))
		y += barHeight
	}
	return y
}
