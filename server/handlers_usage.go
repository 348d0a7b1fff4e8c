package server

import (
	"net/http"
	"slices"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) getUsage(_ http.ResponseWriter, r *http.Request) (any, error) {
	text := r.URL.Query().Get("ref")
	if text == "" {
		u, err := s.engines.cat.StoreUsage()
		if err != nil {
			return nil, err
		}
		st := s.engines.cat.Stats()
		return api.UsageReport{Kind: "store", Points: st.Points, TrashedPoints: st.Trashed, Usage: usage(u)}, nil
	}
	ref, err := catalog.ParseRef(text)
	if err != nil {
		return nil, err
	}
	return result(s.usageOf(text, ref))
}

func (s *Server) usageOf(text string, ref catalog.Ref) (out api.UsageReport, err error) {
	out.Ref = text
	var u catalog.Usage
	switch {
	case ref.Point == "" && ref.Disk == "":
		out.Kind = "vm"
		if u, err = s.engines.cat.VMUsage(ref.VM); err == nil {
			out.Points, out.TrashedPoints, err = s.countPoints(ref.VM, "")
		}
	case ref.Point == "":
		out.Kind = "disk"
		if u, err = s.engines.cat.DiskUsage(ref.VM, ref.Disk); err == nil {
			out.Points, out.TrashedPoints, err = s.countPoints(ref.VM, ref.Disk)
		}
	case ref.Disk != "":
		out.Kind, out.Points = "image", 1
		u, err = s.imageUsage(ref)
	default:
		out.Kind, out.Points = "point", 1
		var p catalog.Point
		if p, err = s.resolveText(text, ref); err == nil {
			u, err = s.engines.cat.Usage(p.ID)
		}
	}
	out.Usage = usage(u)
	return out, err
}

// imageUsage is what one disk of one point takes.
func (s *Server) imageUsage(ref catalog.Ref) (catalog.Usage, error) {
	p, err := s.engines.cat.Resolve(ref)
	if err != nil {
		return catalog.Usage{}, err
	}
	all, err := s.engines.cat.ChainUsage(p.VM, ref.Disk)
	return all[p.ID], err
}

// countPoints counts the points of a VM that have the disk, or any disk when it
// is empty.
func (s *Server) countPoints(vm, disk string) (live, trashed int, err error) {
	has := func(p *catalog.Point) bool {
		return disk == "" || slices.ContainsFunc(p.Images, func(im catalog.Image) bool { return im.Disk == disk })
	}
	err = s.engines.cat.EachPoint(vm, time.Time{}, func(p *catalog.Point) bool {
		if has(p) {
			live++
		}
		return true
	})
	if err != nil {
		return 0, 0, err
	}
	trash, err := s.engines.cat.TrashList()
	for i := range trash {
		if trash[i].VM == vm && has(&trash[i]) {
			trashed++
		}
	}
	return live, trashed, err
}
