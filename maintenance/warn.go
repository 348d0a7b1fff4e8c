package maintenance

import (
	"sync"

	"github.com/strongroom-backup/strongroom/catalog"
)

// warnedState is what was warned of.
type warnedState struct {
	sync.Mutex
	texts     map[string]string // by disk; nil: nobody has looked
	committed uint64            // backups by then
}

// warnOfManual tells of disks with more points made by hand than the operator
// wants to know of, once for each number of them.
func (e *Engine) warnOfManual() error {
	if e.events.Warning == nil {
		return nil
	}
	committed := e.vols.Stats().Committed
	e.warned.Lock()
	defer e.warned.Unlock()
	if e.warned.texts != nil && committed == e.warned.committed {
		return nil
	}
	vms, err := e.cat.VMs()
	if err != nil {
		return err
	}
	texts := map[string]string{}
	for _, v := range vms {
		set, err := e.Settings(v.Name)
		if err != nil {
			return err
		}
		if set.ManualWarn == 0 {
			continue
		}
		points, err := e.cat.Points(v.Name)
		if err != nil {
			return err
		}
		for disk, n := range manualPoints(points) {
			if w := set.manualWarning(v.Name, disk, n); w != "" {
				texts[v.Name+"/"+disk] = w
			}
		}
	}
	for disk, w := range texts {
		if e.warned.texts[disk] != w {
			e.events.Warning(w)
		}
	}
	e.warned.texts, e.warned.committed = texts, committed
	return nil
}

// manualPoints counts points made by hand by disk.
func manualPoints(points []catalog.Point) map[string]int {
	n := map[string]int{}
	for i := range points {
		if points[i].Manual {
			for _, im := range points[i].Images {
				n[im.Disk]++
			}
		}
	}
	return n
}
