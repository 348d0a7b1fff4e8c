package server

import (
	"fmt"
	"net/http"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/maintenance"
	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) getVMs(http.ResponseWriter, *http.Request) (any, error) {
	vms, err := s.engines.cat.VMs()
	if err != nil {
		return nil, err
	}
	list := []api.VM{}
	for _, v := range vms {
		list = append(list, machine(v))
	}
	return list, nil
}

// pathNames reads the names of a VM and, where the path has one, of a disk.
func pathNames(r *http.Request) (vm, disk string, err error) {
	vm, disk = r.PathValue("vm"), r.PathValue("disk")
	for _, name := range []string{vm, disk} {
		if name != "" && !ids.IsName(name) {
			return "", "", fmt.Errorf("name %.200q: %w", name, catalog.ErrInvalid)
		}
	}
	return vm, disk, nil
}

func (s *Server) getPolicy(_ http.ResponseWriter, r *http.Request) (any, error) {
	vm, _, err := pathNames(r)
	if err != nil {
		return nil, err
	}
	return result(s.policy(vm))
}

func (s *Server) policy(vm string) (out api.VMPolicy, err error) {
	own, err := s.engines.cat.Policy(vm)
	if err != nil {
		return out, err
	}
	all, err := s.upkeep.Settings(vm)
	return api.VMPolicy{VM: vm, Own: policyOut(own), Effective: effective(all)}, err
}

func (s *Server) putPolicy(_ http.ResponseWriter, r *http.Request) (any, error) {
	vm, _, err := pathNames(r)
	if err != nil {
		return nil, err
	}
	var q api.Policy
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if err := checkPolicy(q); err != nil {
		return nil, err
	}
	if err := s.upkeep.SetPolicy(vm, policyIn(q)); err != nil {
		return nil, err
	}
	s.log.Info("policy set", keyVM, vm)
	return result(s.policy(vm))
}

// checkPolicy holds a policy to the bounds of the configuration.
func checkPolicy(q api.Policy) error {
	for _, n := range []struct {
		name string
		v    *int
	}{{"full_after", q.FullAfter}, {"chain_limit", q.ChainLimit}, {"manual_warn", q.ManualWarn}} {
		if n.v != nil && (*n.v < 0 || *n.v > chainMax) {
			return badRequest("%s is %d; want 0 to %d, 0 for off", n.name, *n.v, chainMax)
		}
	}
	if t := q.TrashSeconds; t != nil && (*t < 0 || *t > int64(trashKeepMax.Seconds())) {
		return badRequest("trash_seconds is %d; want 0 to %d", *t, int64(trashKeepMax.Seconds()))
	}
	if q.Keep != nil {
		if err := checkKeep(*q.Keep); err != nil {
			return err
		}
	}
	if len(q.LabelKeep) > labelRulesMax {
		return badRequest("label_keep has %d labels; want at most %d", len(q.LabelKeep), labelRulesMax)
	}
	for label, keep := range q.LabelKeep {
		if err := checkLabel(label); err != nil {
			return badRequest("label_keep: %v", err)
		}
		if err := checkKeep(keep); err != nil {
			return err
		}
	}
	return nil
}

func checkKeep(k api.Keep) error {
	keep := keepIn(k)
	for _, rule := range keepRules {
		if n := *rule.of(&keep); n < 0 || n > keepMax {
			return badRequest("keep: %s is %d; want 0 to %d", rule.name, n, keepMax)
		}
	}
	return nil
}

func (s *Server) getChain(_ http.ResponseWriter, r *http.Request) (any, error) {
	vm, disk, err := pathNames(r)
	if err != nil {
		return nil, err
	}
	t, err := s.upkeep.Chain(vm, disk)
	if err != nil {
		return nil, err
	}
	return chain(t), nil
}

func (s *Server) postMerge(_ http.ResponseWriter, r *http.Request) (any, error) {
	vm, disk, err := pathNames(r)
	if err != nil {
		return nil, err
	}
	var q api.MergeRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	m, err := s.upkeep.Merge(maintenance.MergeRequest{VM: vm, Disk: disk, From: q.From, Into: q.Into, DryRun: q.DryRun})
	if err != nil {
		return nil, err
	}
	if !q.DryRun {
		s.log.Info("images merged", keyVM, vm, keyDisk, disk, "direction", m.Direction, "from", m.From, "into", m.Into, "gone", len(m.Gone))
	}
	return merged(m, q.DryRun), nil
}
