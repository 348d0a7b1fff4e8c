package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/catalog/retention"
	"github.com/strongroom-backup/strongroom/internal/ids"
)

// Policy is what an operator wants of a VM's points. What is nil is as the
// server has it.
type Policy struct {
	Keep         *retention.Keep           `json:"keep,omitempty"`
	LabelKeep    map[string]retention.Keep `json:"label_keep,omitempty"` // by "key=value"
	FullAfter    *int                      `json:"full_after,omitempty"`
	ChainLimit   *int                      `json:"chain_limit,omitempty"`
	ManualWarn   *int                      `json:"manual_warn,omitempty"`
	StrictChains *bool                     `json:"strict_chains,omitempty"`
	TrashKeep    *time.Duration            `json:"trash_keep,omitempty"` // nanoseconds
}

// check tells whether a policy may be kept.
func (p *Policy) check() error {
	if p.Keep != nil {
		if err := checkKeep(*p.Keep); err != nil {
			return err
		}
	}
	if len(p.LabelKeep) > MaxLabelRules {
		return invalid("%d rules by label; a policy holds %d", len(p.LabelKeep), MaxLabelRules)
	}
	for label, k := range p.LabelKeep {
		if err := checkLabelRule(label, k); err != nil {
			return err
		}
	}
	for name, n := range map[string]*int{"full_after": p.FullAfter, "chain_limit": p.ChainLimit, "manual_warn": p.ManualWarn} {
		if n != nil && (*n < 0 || *n > maxPolicyCount) {
			return invalid("%s is %d; it may be 0 to %d", name, *n, maxPolicyCount)
		}
	}
	if p.TrashKeep != nil && *p.TrashKeep < 0 {
		return invalid("trash_keep is %s; it cannot be negative", *p.TrashKeep)
	}
	return nil
}

func checkLabelRule(label string, k retention.Keep) error {
	key, value, ok := strings.Cut(label, "=")
	if !ok || !ids.IsName(key) || len(value) > MaxLabelBytes || !utf8.ValidString(value) {
		return invalid("rule for label %q: write it as key=value, the key being %s", label, nameShape)
	}
	if err := checkKeep(k); err != nil {
		return fmt.Errorf("rule for label %s: %w", label, err)
	}
	return nil
}

func checkKeep(k retention.Keep) error {
	if err := k.Validate(); err != nil {
		return invalid("%v", err)
	}
	if n := max(k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly); n > maxPolicyCount {
		return invalid("a keep rule of %d; it may be up to %d", n, maxPolicyCount)
	}
	return nil
}

// encode makes the bytes of a policy, none of an empty one.
func (p *Policy) encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(p)
	switch {
	case err != nil:
		return nil, invalid("%v", err)
	case len(b) > MaxPolicyBytes:
		return nil, invalid("the policy takes %d bytes; it may take %d", len(b), MaxPolicyBytes)
	case string(b) == "{}":
		return nil, nil
	}
	return b, nil
}

// decodePolicy accepts what check does, and no field it does not know.
func decodePolicy(b []byte) (p Policy, err error) {
	if len(b) > MaxPolicyBytes {
		return p, errDecode
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, err
	}
	if len(bytes.TrimSpace(b[d.InputOffset():])) > 0 {
		return p, errDecode
	}
	return p, p.check()
}

// SetPolicy replaces the policy of a VM, durably; an empty one takes it away.
// The VM need not have a point. "" is for a policy that belongs to no VM. One
// that breaks a rule fails with ErrInvalid.
func (c *Catalog) SetPolicy(vm string, p Policy) error {
	if vm != "" && !ids.IsName(vm) {
		return invalid("VM name %q: use %s", vm, nameShape)
	}
	value, err := p.encode()
	if err != nil {
		return fmt.Errorf("policy of VM %q: %w", vm, err)
	}
	return c.exclusively(func() error {
		old, err := getPolicy(c.db, vm)
		if err != nil || bytes.Equal(old, value) {
			return err
		}
		if err := c.write((&ruled{vm, value}).records); err != nil {
			return fmt.Errorf("set the policy of VM %q: %w", vm, err)
		}
		return nil
	})
}

// Policy returns the policy of a VM, an empty one if it has none.
func (c *Catalog) Policy(vm string) (Policy, error) {
	if err := c.enter(); err != nil {
		return Policy{}, err
	}
	defer c.leave()
	b, err := getPolicy(c.db, vm)
	if err != nil || b == nil {
		return Policy{}, err
	}
	return readPolicy(vm, b)
}

// Policies returns the policies of all VMs that have one.
func (c *Catalog) Policies() (map[string]Policy, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	all := map[string]Policy{}
	err := scan(c.db, []byte{keyPolicy}, func(key, value []byte) (err error) {
		vm := string(key[1:])
		all[vm], err = readPolicy(vm, value)
		return err
	})
	return all, err
}

func readPolicy(vm string, b []byte) (Policy, error) {
	p, err := decodePolicy(b)
	if err != nil {
		return p, damaged(fmt.Sprintf("the policy of VM %q", vm), err)
	}
	return p, nil
}

// getPolicy returns nil for a VM without one.
func getPolicy(r pebble.Reader, vm string) ([]byte, error) {
	b, err := get(r, policyKey(vm))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(fmt.Sprintf("the policy of VM %q", vm), err)
	}
	return b, nil
}
