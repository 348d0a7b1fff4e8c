package main

import "github.com/strongroom-backup/strongroom/server/api"

// treeRow is a line of a drawn tree: the lines before an image, and the image;
// none for the gap between two trees.
type treeRow struct {
	art   string
	image *api.ChainImage
}

// treeArt are the strings a tree is drawn with.
type treeArt struct{ full, incremental, branch, pipe string }

var (
	unicodeArt = treeArt{full: "● ", incremental: "○ ", branch: "├─", pipe: "│ "}
	asciiArt   = treeArt{full: "* ", incremental: "o ", branch: "|-", pipe: "| "}
)

// drawTree draws images, which come parents first. Of an image's children the
// one that leads to the newest image stands straight below; the others come
// before it, set in. So a chain without branches is a straight column however
// long it is.
func drawTree(images []api.ChainImage, ascii bool) []treeRow {
	d := drawing{images: images, art: unicodeArt, children: map[string][]int{}, newest: map[string]int{}}
	if ascii {
		d.art = asciiArt
	}
	d.link()
	for i, root := range d.roots {
		if i > 0 {
			d.rows = append(d.rows, treeRow{})
		}
		d.draw(root)
	}
	return d.rows
}

type drawing struct {
	images   []api.ChainImage
	art      treeArt
	roots    []int
	children map[string][]int // by point
	newest   map[string]int   // the newest image that hangs on a point, or is it
	rows     []treeRow
}

func (d *drawing) link() {
	known := map[string]bool{}
	for i, im := range d.images {
		if known[im.Parent] {
			d.children[im.Parent] = append(d.children[im.Parent], i)
		} else {
			d.roots = append(d.roots, i)
		}
		known[im.Point] = true
	}
	for i := len(d.images) - 1; i >= 0; i-- { // children before their parents
		newest := i
		for _, child := range d.children[d.images[i].Point] {
			newest = max(newest, d.newest[d.images[child].Point])
		}
		d.newest[d.images[i].Point] = newest
	}
}

// trunk is a straight piece still to be drawn. first stands before its first
// image, rest before the others.
type trunk struct {
	image       int
	first, rest string
}

// draw draws a tree without recursion: one can be as deep as it has images.
func (d *drawing) draw(root int) {
	todo := []trunk{{image: root}}
	for len(todo) > 0 {
		t := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		im := &d.images[t.image]
		mark := d.art.incremental
		if im.Mode == "full" {
			mark = d.art.full
		}
		d.rows = append(d.rows, treeRow{t.first + mark, im})
		straight, sides := d.split(im.Point)
		if straight >= 0 {
			todo = append(todo, trunk{straight, t.rest, t.rest})
		}
		for i := len(sides) - 1; i >= 0; i-- { // the last is drawn last
			todo = append(todo, trunk{sides[i], t.rest + d.art.branch, t.rest + d.art.pipe})
		}
	}
}

// split tells the child that goes on straight, -1 for none, from the others.
func (d *drawing) split(point string) (straight int, sides []int) {
	straight = -1
	for _, child := range d.children[point] {
		if d.newest[d.images[child].Point] == d.newest[point] {
			straight = child
		} else {
			sides = append(sides, child)
		}
	}
	return straight, sides
}
