package maintenance

import (
	"fmt"
	"maps"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/catalog/retention"
)

// Settings is a policy with nothing left open: a VM's own over the server's.
type Settings struct {
	Keep      retention.Keep
	LabelKeep map[string]retention.Keep // by "key=value"
	// FullAfter is after how many incrementals a backup in mode auto is a full;
	// 0: never.
	FullAfter int
	// ChainLimit is how many images may hang on one another; 0: any number.
	ChainLimit int
	// ManualWarn is above how many manual points of a disk there is a warning;
	// 0: never.
	ManualWarn   int
	StrictChains bool
	// TrashKeep is how long a deleted point can be undeleted; 0: not at all.
	TrashKeep time.Duration
}

// Validate refuses what makes no sense; the error wraps ErrBadRequest.
func (s *Settings) Validate() error {
	if err := s.Keep.Validate(); err != nil {
		return fmt.Errorf("%w: %v", ErrBadRequest, err)
	}
	for label, k := range s.LabelKeep {
		if err := k.Validate(); err != nil {
			return fmt.Errorf("%w: label %s: %v", ErrBadRequest, label, err)
		}
		if _, _, ok := cutLabel(label); !ok {
			return fmt.Errorf("%w: label rule %q; want KEY=VALUE", ErrBadRequest, label)
		}
	}
	if min(s.FullAfter, s.ChainLimit, s.ManualWarn) < 0 || s.TrashKeep < 0 {
		return fmt.Errorf("%w: a limit is below 0; 0 switches it off", ErrBadRequest)
	}
	return nil
}

// with lays a VM's policy over the settings. A VM's rule for a label takes the
// place of the server's for the same label.
func (s Settings) with(p catalog.Policy) Settings {
	set(&s.Keep, p.Keep)
	set(&s.FullAfter, p.FullAfter)
	set(&s.ChainLimit, p.ChainLimit)
	set(&s.ManualWarn, p.ManualWarn)
	set(&s.StrictChains, p.StrictChains)
	set(&s.TrashKeep, p.TrashKeep)
	if len(p.LabelKeep) > 0 {
		s.LabelKeep = maps.Clone(s.LabelKeep)
		if s.LabelKeep == nil {
			s.LabelKeep = map[string]retention.Keep{}
		}
		maps.Copy(s.LabelKeep, p.LabelKeep)
	}
	return s
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// Settings is what holds for a VM; "" is the server's own.
func (e *Engine) Settings(vm string) (Settings, error) {
	s := e.config.Settings
	if vm == "" {
		return s, nil
	}
	p, err := e.cat.Policy(vm)
	if err != nil {
		return s, fmt.Errorf("policy of VM %s: %w", vm, err)
	}
	return s.with(p), nil
}

// SetPolicy replaces a VM's policy; an empty one leaves it to the server's.
func (e *Engine) SetPolicy(vm string, p catalog.Policy) error {
	s := Settings{}.with(p)
	if err := s.Validate(); err != nil {
		return fmt.Errorf("policy of VM %s: %w", vm, err)
	}
	return e.cat.SetPolicy(vm, p)
}
