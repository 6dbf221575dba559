// Command generate turns the land outline of Natural Earth (1:110m, public
// domain, here as the TopoJSON file land-110m.json of the npm package
// world-atlas 2.0.2) into the one SVG path that the console draws. It
// guarantees the same bytes for the same input, so that "make generate" can
// show whether the committed path is that input's.
//
// The path's unit is a degree of longitude, x from 0 (180 W) to 360, and the
// Miller cylindrical projection downwards, y from 0 at 84 N. Being cylindrical,
// the map can be drawn several times side by side and cut at any meridian: a
// world whose regions face each other over the Pacific is shown with the
// Pacific in its middle. For the same reason rings that cross 180 degrees are
// not cut: they reach below 0 or beyond 360. The page's script has the same two
// lines of projection.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	north     = 84.0 // degrees; the path's y = 0
	south     = -60  // degrees; what lies wholly below is Antarctica and left out
	tolerance = 0.22 // degrees; detail finer than a pixel at 1,600 pixels around the world
	smallest  = 0.5  // square degrees; smaller islands are left out
)

func main() {
	dir := "cmd/homing/console"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := generate(dir); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(dir string) error {
	in, err := os.ReadFile(filepath.Join(dir, "generate", "land-110m.json"))
	if err != nil {
		return fmt.Errorf("%w (run it from the repository's root)", err)
	}
	rings, err := decode(in)
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, r := range rings {
		r = simplify(unwrap(r), tolerance)
		if len(r) < 4 || math.Abs(area(r)) < smallest || top(r) < south {
			continue
		}
		draw(&out, r)
	}
	return os.WriteFile(filepath.Join(dir, "web", "land.path"), []byte(out.String()+"\n"), 0o644)
}

// point is longitude and latitude in degrees.
type point [2]float64

// topology is what of TopoJSON the file uses.
type topology struct {
	Transform struct{ Scale, Translate point }
	Arcs      [][][2]float64
	Objects   map[string]struct {
		Geometries []struct {
			Type string
			Arcs [][][]int // polygons, rings, arcs; ^i is arc i backwards
		}
	}
}

// decode returns the rings of every polygon of the object "land".
func decode(b []byte) ([][]point, error) {
	var t topology
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, err
	}
	arcs := make([][]point, len(t.Arcs))
	for i, a := range t.Arcs {
		var x, y float64
		for _, d := range a { // quantised, each point relative to the one before
			x, y = x+d[0], y+d[1]
			arcs[i] = append(arcs[i], point{x*t.Transform.Scale[0] + t.Transform.Translate[0], y*t.Transform.Scale[1] + t.Transform.Translate[1]})
		}
	}
	var rings [][]point
	for _, g := range t.Objects["land"].Geometries {
		if g.Type != "MultiPolygon" {
			return nil, fmt.Errorf("geometry %q: want MultiPolygon", g.Type)
		}
		for _, polygon := range g.Arcs {
			for _, ring := range polygon {
				var r []point
				for _, i := range ring {
					a, backwards := i, i < 0
					if backwards {
						a = ^i
					}
					n := len(arcs[a])
					for k := range n {
						p := arcs[a][k]
						if backwards {
							p = arcs[a][n-1-k]
						}
						if k == 0 && len(r) > 0 {
							continue // the end of the arc before
						}
						r = append(r, p)
					}
				}
				rings = append(rings, r)
			}
		}
	}
	if len(rings) == 0 {
		return nil, fmt.Errorf("no land in the file")
	}
	return rings, nil
}

// unwrap removes the jumps of 360 degrees of a ring that crosses 180.
func unwrap(r []point) []point {
	out, turn := []point{r[0]}, 0.0
	for i := 1; i < len(r); i++ {
		switch d := r[i][0] - r[i-1][0]; {
		case d > 180:
			turn -= 360
		case d < -180:
			turn += 360
		}
		out = append(out, point{r[i][0] + turn, r[i][1]})
	}
	return out
}

// simplify is Douglas and Peucker's, iterative enough for rings: the ring is
// split at its point farthest from the first.
func simplify(r []point, tolerance float64) []point {
	far := 0
	for i := range r {
		if distance(r[i], r[0]) > distance(r[far], r[0]) {
			far = i
		}
	}
	if far == 0 {
		return r
	}
	half := reduce(r[:far+1], tolerance)
	return append(half[:len(half)-1:len(half)-1], reduce(r[far:], tolerance)...)
}

func reduce(line []point, tolerance float64) []point {
	first, last := line[0], line[len(line)-1]
	worst, at := 0.0, 0
	for i := 1; i < len(line)-1; i++ {
		if d := offLine(line[i], first, last); d > worst {
			worst, at = d, i
		}
	}
	if worst <= tolerance {
		return []point{first, last}
	}
	left := reduce(line[:at+1], tolerance)
	return append(left[:len(left)-1:len(left)-1], reduce(line[at:], tolerance)...)
}

func distance(a, b point) float64 { return math.Hypot(a[0]-b[0], a[1]-b[1]) }

// offLine is the distance of p from the line through a and b.
func offLine(p, a, b point) float64 {
	d := distance(a, b)
	if d == 0 {
		return distance(p, a)
	}
	return math.Abs((b[0]-a[0])*(a[1]-p[1])-(a[0]-p[0])*(b[1]-a[1])) / d
}

// area is the ring's signed area, in square degrees.
func area(r []point) float64 {
	s := 0.0
	for i := range r {
		j := (i + 1) % len(r)
		s += r[i][0]*r[j][1] - r[j][0]*r[i][1]
	}
	return s / 2
}

func top(r []point) float64 {
	t := r[0][1]
	for _, p := range r {
		t = max(t, p[1])
	}
	return t
}

// miller is the projection's y, in degrees of longitude at the equator.
func miller(lat float64) float64 {
	return 1.25 * math.Log(math.Tan(math.Pi/4+0.4*lat*math.Pi/180)) * 180 / math.Pi
}

// draw writes the ring as relative moves in tenths of the unit. What is rounded
// off one step is carried to the next, so that rings close.
func draw(out *strings.Builder, r []point) {
	px, py := 0, 0
	for i, p := range r[:len(r)-1] { // the last repeats the first
		x := int(math.Round((p[0] + 180) * 10))
		y := int(math.Round((miller(north) - miller(p[1])) * 10))
		switch {
		case i == 0:
			fmt.Fprintf(out, "M%s %sl", tenths(x), tenths(y))
		case x == px && y == py:
			continue
		default:
			dx, dy := tenths(x-px), tenths(y-py)
			if i > 1 && dx[0] != '-' {
				dx = " " + dx
			}
			if dy[0] != '-' {
				dy = " " + dy
			}
			out.WriteString(dx + dy)
		}
		px, py = x, y
	}
	out.WriteString("z")
}

// tenths writes n/10 as short as SVG allows: without a leading zero.
func tenths(n int) string {
	s := strconv.FormatFloat(float64(n)/10, 'f', -1, 64)
	if f, ok := strings.CutPrefix(s, "0."); ok {
		return "." + f
	}
	if f, ok := strings.CutPrefix(s, "-0."); ok {
		return "-." + f
	}
	return s
}
