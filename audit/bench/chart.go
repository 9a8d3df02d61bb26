package bench

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// A chart is drawn as SVG by hand: two panels over one axis need no library, and the file can be read and compared.

// series is one line of a panel: the median of the runs at each x, and every run as a dot.
type series struct {
	name   string
	color  string
	dashed bool
	points map[float64][]float64 // x → a value for each run
}

func newSeries(name, color string) series {
	return series{name: name, color: color, points: map[float64][]float64{}}
}

func (s series) add(x, y float64) { s.points[x] = append(s.points[x], y) }

// panel is one field of a chart.
type panel struct {
	title  string
	log    bool // the y axis; x is linear
	same   bool // a line where y is x
	series []series
}

// Sizes in pixels.
const (
	chartWidth  = 760
	panelHeight = 260
	marginLeft  = 70
	marginRight = 120
	marginTop   = 56
	panelGap    = 50
)

// drawing is a chart while it is written.
type drawing struct {
	strings.Builder
	xMax float64
}

// chart draws panels above each other over one x axis.
func chart(title, xName string, panels []panel) string {
	d := &drawing{xMax: 1}
	for _, p := range panels {
		for _, s := range p.series {
			for x := range s.points {
				d.xMax = max(d.xMax, x)
			}
		}
	}
	d.xMax = ticksTo(d.xMax)[len(ticksTo(d.xMax))-1]
	height := marginTop + len(panels)*(panelHeight+panelGap) + 10
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(d, `<rect width="%d" height="%d" fill="white"/>`+"\n", chartWidth, height)
	d.text(marginLeft, 18, "start", "#111", title)
	for i, p := range panels {
		d.panel(p, float64(marginTop+i*(panelHeight+panelGap)))
	}
	d.text(marginLeft+d.width()/2, float64(height)-6, "middle", "#333", xName+" (dots: every run, lines: medians)")
	d.WriteString("</svg>\n")
	return d.String()
}

func (d *drawing) width() float64 { return chartWidth - marginLeft - marginRight }

func (d *drawing) x(v float64) float64 { return marginLeft + d.width()*v/d.xMax }

func (d *drawing) text(x, y float64, anchor, color, s string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, color, html.EscapeString(s))
}

func (d *drawing) line(x1, y1, x2, y2 float64, color, more string) {
	fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"%s/>`+"\n", x1, y1, x2, y2, color, more)
}

func (d *drawing) panel(p panel, top float64) {
	low, high := math.Inf(1), 0.0
	for _, s := range p.series {
		for _, values := range s.points {
			low, high = min(low, slices.Min(values)), max(high, slices.Max(values))
		}
	}
	if high == 0 {
		low, high = 1, 1
	}
	ticks := ticksTo(high)
	scale := func(v float64) float64 { return top + panelHeight*(1-v/ticks[len(ticks)-1]) }
	if p.log {
		ticks = decades(low, high)
		first, last := math.Log10(ticks[0]), math.Log10(ticks[len(ticks)-1])
		scale = func(v float64) float64 {
			return top + panelHeight*(1-(math.Log10(max(v, ticks[0]))-first)/(last-first))
		}
	}
	d.text(marginLeft, top-8, "start", "#333", p.title)
	for _, v := range ticks {
		d.line(marginLeft, scale(v), marginLeft+d.width(), scale(v), "#ddd", "")
		d.text(marginLeft-6, scale(v)+4, "end", "#333", number(v))
	}
	for _, v := range ticksTo(d.xMax) {
		d.line(d.x(v), top, d.x(v), top+panelHeight, "#eee", "")
		d.text(d.x(v), top+panelHeight+16, "middle", "#333", number(v))
	}
	if p.same {
		end := min(d.xMax, ticks[len(ticks)-1])
		d.line(d.x(0), scale(0), d.x(end), scale(end), "#999", ` stroke-dasharray="4 4"`)
	}
	taken := []float64{}
	for _, s := range p.series {
		d.series(s, scale, &taken)
	}
}

// series draws one line with its name at its end, where no other name stands.
func (d *drawing) series(s series, scale func(float64) float64, taken *[]float64) {
	xs := make([]float64, 0, len(s.points))
	for x := range s.points {
		xs = append(xs, x)
	}
	if len(xs) == 0 {
		return
	}
	slices.Sort(xs)
	var path strings.Builder
	var endX, endY float64
	for i, x := range xs {
		for _, y := range s.points[x] {
			fmt.Fprintf(d, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s" fill-opacity="0.6"/>`+"\n", d.x(x), scale(y), s.color)
		}
		endX, endY = d.x(x), scale(median(s.points[x]))
		fmt.Fprintf(&path, "%s%.1f %.1f", map[bool]string{true: "M", false: " L"}[i == 0], endX, endY)
	}
	dashes := ""
	if s.dashed {
		dashes = ` stroke-dasharray="5 4"`
	}
	fmt.Fprintf(d, `<path d="%s" fill="none" stroke="%s" stroke-width="1.8"%s/>`+"\n", path.String(), s.color, dashes)
	labelY := endY + 4
	for slices.ContainsFunc(*taken, func(y float64) bool { return math.Abs(y-labelY) < 13 }) {
		labelY += 13
	}
	*taken = append(*taken, labelY)
	d.text(endX+8, labelY, "start", s.color, s.name)
}

// ticksTo are some four to eight round numbers from 0 to high or a little more.
func ticksTo(high float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(max(high, 1e-9))))
	for _, f := range []float64{0.2, 0.25, 0.5, 1, 2} {
		if high/(step*f) <= 8 {
			step *= f
			break
		}
	}
	var out []float64
	for v := 0.0; v < high+step*0.999; v += step {
		out = append(out, v)
	}
	return out
}

// decades are 1, 2 and 5 times the powers of ten, from low or a little less to high or a little more.
func decades(low, high float64) []float64 {
	low, high = max(low, 1e-3), max(high, 1e-3)
	var out []float64
	for p := math.Pow(10, math.Floor(math.Log10(low))); len(out) < 2 || out[len(out)-1] < high; p *= 10 {
		out = append(out, p, 2*p, 5*p)
	}
	for len(out) > 2 && out[1] <= low {
		out = out[1:]
	}
	for len(out) > 2 && out[len(out)-2] >= high {
		out = out[:len(out)-1]
	}
	return out
}

// number is v with as few characters as it needs.
func number(v float64) string {
	s := fmt.Sprintf("%.6g", v)
	if v >= 10000 {
		s = fmt.Sprintf("%gk", v/1000)
	}
	return s
}

// median of values, which are not empty.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
