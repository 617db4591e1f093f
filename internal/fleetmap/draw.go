package fleetmap

import (
	"fmt"
	"slices"
	"strings"
)

// maxExceptions is how many exceptions a frame has at most.
const maxExceptions = 10

// Frame draws the model in at most height lines of at most width columns. With too little room the map is left
// out, and then lines below it, starting with the last one.
func Frame(m *Model, width, height int) []Line {
	f := frame{model: m, width: max(width, 1)}
	if m.Unread != "" {
		f.unread()
	} else {
		f.heading()
		room := max(height-len(f.lines)-1, 0)
		f.zones(room - kept(len(m.Zones), room))
		f.exceptions(height - len(f.lines))
	}
	lines := f.lines[:min(len(f.lines), max(height, 0))]
	for i := range lines {
		lines[i] = lines[i].clip(f.width)
	}
	return lines
}

// kept returns how many rows are reserved for exceptions. The number does not depend on how many exceptions
// there are, because the map must not jump. If zones would have to share a row, they take precedence.
func kept(zones, room int) int {
	const least = 4
	n := min(1+maxExceptions, room/2)
	if zones > room-n {
		n = min(n, least)
	}
	return n
}

// frame is what is being drawn.
type frame struct {
	model *Model
	width int
	lines []Line
}

func (f *frame) add(spans ...Span) { f.lines = append(f.lines, spans) }

// unread draws why there is nothing to draw. That has the whole frame, so nothing of it is cut off.
func (f *frame) unread() {
	const about = "  " + notRead
	f.add(Span{shortName(harmless(f.model.Set), max(f.width-width(about), f.width/2)), bold}, Span{about, ""})
	for rest := harmless(f.model.Unread); rest != ""; {
		line := head(rest, f.width)
		if at := strings.LastIndexByte(line, ' '); at > 0 && line != rest {
			line = line[:at]
		}
		if line == "" { // a letter is wider than the frame
			return
		}
		f.add(Span{line, alarm})
		rest = strings.TrimLeft(rest[len(line):], " ")
	}
}

// notRead is what a fleet is called of which nothing is known yet.
const notRead = "not read yet"

func (f *frame) heading() {
	m := f.model
	about := "  " + harmless(m.phase())
	if text := m.revisions(); text != "" {
		about += "  " + text
	}
	f.add(Span{shortName(harmless(m.Set), max(f.width-width(about), f.width/2)), bold}, Span{about, ""})
	if m.Stale != "" {
		f.add(Span{harmless("STALE " + m.Stale), alarm})
	}
	if m.Hidden != "" {
		f.add(Span{harmless(m.Hidden), ""})
	}
	f.legend()
	if m.Rollout != nil {
		f.add(Span{harmless(m.Rollout.text()), ""})
	}
	if len(m.Waves) > 0 {
		f.add(Span{harmless(wavesText(m.Waves, f.width)), ""})
	}
}

// phase returns the controller's word for the phase, or else the reader's own.
func (m *Model) phase() string {
	if r := m.Rollout; r != nil {
		return r.Phase
	}
	return m.Phase
}

func (m *Model) revisions() string {
	switch len(m.Before) {
	case 0:
		return harmless(m.Revision)
	case 1:
		return harmless(m.Before[0] + " -> " + m.Revision)
	}
	return harmless(fmt.Sprintf("%d older -> %s", len(m.Before), m.Revision))
}

// told returns the states in the order in which counts are shown: first what a release is about, then what is
// wrong.
func told() []State { return []State{New, Old, Starting, Waiting, Failing, Down, NotMeant} }

// legend draws what the signs mean, and how many nodes have each. It breaks the line only between two of them.
func (f *frame) legend() {
	counts := f.model.Counts()
	all := 0
	for _, n := range counts {
		all += n
	}
	line := Line{{counted(all, "node") + ":", ""}}
	used := width(line[0].Text)
	for _, s := range told() {
		if counts[s] == 0 {
			continue
		}
		look := s.look()
		text := " " + number(counts[s]) + " " + look.name
		if n := 2 + 1 + width(text); used+n > f.width {
			f.lines, line, used = append(f.lines, line), nil, n
		} else {
			used += n
		}
		line = append(line, Span{"  ", ""}, Span{string(look.sign), look.colour}, Span{text, ""})
	}
	f.lines = append(f.lines, line)
}

// Summary returns the model in one line.
func (m *Model) Summary() string {
	if m.Unread != "" {
		return harmless(notRead + " " + m.Unread)
	}
	counts, all, parts := m.Counts(), 0, []string{}
	for _, s := range told() {
		if all += counts[s]; counts[s] > 0 {
			parts = append(parts, number(counts[s])+" "+s.String())
		}
	}
	text := m.phase() + ", " + counted(all, "node")
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	if m.Stale != "" {
		text += "; STALE " + m.Stale
	}
	if m.Hidden != "" {
		text += "; " + m.Hidden
	}
	return harmless(text)
}

func (r *Rollout) text() string {
	parts := []string{}
	if r.Wave != "" {
		parts = append(parts, "wave "+r.Wave)
	}
	parts = append(parts, fmt.Sprintf("%s of %s exposed", number(r.Exposed), number(r.Quota)), number(r.Failed)+" failed")
	if r.Soak != "" {
		parts = append(parts, "soaked "+r.Soak)
	}
	if r.Reason != "" {
		parts = append(parts, r.Reason)
	}
	return strings.Join(parts, ", ")
}

// wavesText returns the waves in order. If they do not fit, it counts those that are done instead.
func wavesText(waves []Wave, columns int) string {
	over := slices.IndexFunc(waves, func(w Wave) bool { return w.There < w.Nodes })
	if over < 0 {
		over = len(waves) - 1
	}
	text := ""
	for from := 0; from <= over; from++ {
		text = "waves:"
		if from > 0 {
			text += fmt.Sprintf("  %d over", from)
		}
		for _, w := range waves[from:] {
			text += fmt.Sprintf("  %s %s/%s", w.Name, number(w.There), number(w.Nodes))
		}
		if width(text) <= columns {
			break
		}
	}
	return text
}

// narrow is the number of columns from which a line has room for more than what is wrong and where.
const narrow = 40

// maxLabel is the maximum number of columns for the name of a zone.
const maxLabel = 24

// zones draws the map in at most rows rows, and above it how many nodes a sign stands for.
func (f *frame) zones(rows int) {
	if rows < 1 {
		return
	}
	label, count := f.margins()
	blocks, perCell := arrange(f.model.Zones, max(f.width-label-count, 1), rows)
	note := ""
	if perCell > 1 {
		note = fmt.Sprintf("a sign is up to %s nodes, and shows the worst of them", number(perCell))
	}
	f.add(Span{note, ""})
	for _, b := range blocks {
		for i, row := range b.rows {
			line := Line{}
			if label > 0 && i == 0 {
				name := pad(shortName(harmless(b.zone.Name), label-1), label-1)
				line = append(line, Span{name + " ", ""})
				if count > 0 {
					line = append(line, Span{fmt.Sprintf("%*s ", count-1, number(len(b.zone.Nodes))), ""})
				}
			} else if label > 0 {
				line = append(line, Span{strings.Repeat(" ", label+count), ""})
			}
			f.lines = append(f.lines, append(line, b.zone.signs(row)...))
		}
	}
}

// margins returns the width of zone names and of their node counts, each with a space after it. Both are zero
// if the nodes have no zones. The counts are left out if they would take too much of the map.
func (f *frame) margins() (label, count int) {
	zones := f.model.Zones
	if len(zones) == 1 && zones[0].Name == "" {
		return 0, 0
	}
	all := 0
	for i := range zones {
		label = max(label, width(harmless(zones[i].Name)))
		all += len(zones[i].Nodes)
	}
	label = min(max(label, len("99 more zones")), maxLabel, f.width/4) + 1
	if f.width >= narrow {
		count = len(number(all)) + 1
	}
	return label, count
}

// signs returns a row of cells as a line, with one span for neighbours of the same state.
func (z *Zone) signs(row []cell) (line Line) {
	for i := 0; i < len(row); {
		state, from := z.worst(row[i]), i
		for i < len(row) && z.worst(row[i]) == state {
			i++
		}
		look := state.look()
		line = append(line, Span{strings.Repeat(string(look.sign), i-from), look.colour})
	}
	return line
}

// exceptions draws the exceptions into what is left of the frame.
func (f *frame) exceptions(room int) {
	m := f.model
	if len(m.Exceptions) == 0 || room < 2 {
		return
	}
	shown := m.Exceptions[:min(len(m.Exceptions), maxExceptions, room-1)]
	all, there := m.More, 0
	for i := range m.Exceptions {
		all += 1 + m.Exceptions[i].Same
		if i < len(shown) {
			there += 1 + m.Exceptions[i].Same
		}
	}
	title := counted(all, "node") + " to look at"
	if there < all {
		title = fmt.Sprintf("%s, the first %s here", title, number(there))
	}
	f.add(Span{title, bold}, Span{harmless(": " + m.Command), ""})
	names, longest, since := make([]string, len(shown)), 0, 0
	for i := range shown {
		if names[i] = shown[i].name(f.width / 3); f.width >= narrow {
			since = max(since, width(harmless(shown[i].Since)))
		}
		longest = max(longest, width(names[i]))
	}
	for i := range shown {
		look := shown[i].State.look()
		text := " " + pad(names[i], longest) + "  "
		if since > 0 {
			text += pad(harmless(shown[i].Since), since) + "  "
		}
		f.add(Span{string(look.sign), look.colour}, Span{text + harmless(shown[i].Text), ""})
	}
}

// name returns the node's name, and how many others there are, in at most columns columns.
func (e *Exception) name(columns int) string {
	more := ""
	if e.Same > 0 {
		more = " +" + number(e.Same)
	}
	return shortName(harmless(e.Node), max(columns-len(more), 1)) + more
}
