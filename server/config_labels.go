package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/strongroom-backup/strongroom/catalog/retention"
)

// LabelKeep has the keep rules of points with a label, by "key=value". In a
// file it is a mapping; in a flag or a variable the same mapping on one line:
// {"tier=gold": {daily: 30, yearly: 7}}.
type LabelKeep map[string]retention.Keep

// UnmarshalText reads the mapping from one line.
func (l *LabelKeep) UnmarshalText(text []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf(`%.80q: want a mapping, such as {"tier=gold": {daily: 30}}`, text)
	}
	if len(doc.Content) == 0 {
		*l = nil
		return nil
	}
	return l.setMapping(doc.Content[0])
}

// setNode reads the mapping from a file, where it may be a string too.
func (l *LabelKeep) setNode(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		return l.UnmarshalText([]byte(n.Value))
	}
	return l.setMapping(n)
}

func (l *LabelKeep) setMapping(n *yaml.Node) error {
	if n.Tag == "!!null" {
		*l = nil
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return errors.New(`want a mapping, such as {"tier=gold": {daily: 30}}`)
	}
	var out LabelKeep
	for i := 0; i+1 < len(n.Content); i += 2 {
		label := n.Content[i].Value
		if key, value := cutLabel(label); key == "" || value == "" {
			return fmt.Errorf("label %.80q: want key=value", label)
		}
		if _, twice := out[label]; twice {
			return fmt.Errorf("label %.80q: given twice", label)
		}
		keep, err := keepNode(n.Content[i+1])
		if err != nil {
			return fmt.Errorf("label %.80q: %w", label, err)
		}
		if out == nil {
			out = LabelKeep{}
		}
		out[label] = keep
	}
	*l = out
	return nil
}

// cutLabel splits key=value.
func cutLabel(label string) (key, value string) {
	key, value, _ = strings.Cut(label, "=")
	return key, value
}

// keepRules are the names of the rules in configurations and flags.
var keepRules = []struct {
	name string
	of   func(*retention.Keep) *int
}{
	{"last", func(k *retention.Keep) *int { return &k.Last }},
	{"hourly", func(k *retention.Keep) *int { return &k.Hourly }},
	{"daily", func(k *retention.Keep) *int { return &k.Daily }},
	{"weekly", func(k *retention.Keep) *int { return &k.Weekly }},
	{"monthly", func(k *retention.Keep) *int { return &k.Monthly }},
	{"yearly", func(k *retention.Keep) *int { return &k.Yearly }},
}

func keepNode(n *yaml.Node) (k retention.Keep, err error) {
	if n.Kind != yaml.MappingNode {
		return k, errors.New("want keep rules, such as {daily: 30, yearly: 7}")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1].Value
		if seen[name] {
			return k, fmt.Errorf("%.40s: given twice", name)
		}
		seen[name] = true
		if err := setRule(&k, name, value); err != nil {
			return k, err
		}
	}
	return k, nil
}

func setRule(k *retention.Keep, name, value string) error {
	for _, r := range keepRules {
		if r.name != name {
			continue
		}
		v, err := strconv.Atoi(value)
		if err != nil || v < 0 || v > keepMax {
			return fmt.Errorf("%s: %.40q: want a whole number, 0 to %d", name, value, keepMax)
		}
		*r.of(k) = v
		return nil
	}
	return fmt.Errorf("%.40q: no such rule; want last, hourly, daily, weekly, monthly or yearly", name)
}

// String is the mapping on one line, sorted.
func (l LabelKeep) String() string {
	var labels []string
	for _, label := range slices.Sorted(maps.Keys(l)) {
		keep, rules := l[label], []string{}
		for _, r := range keepRules {
			if n := *r.of(&keep); n != 0 {
				rules = append(rules, fmt.Sprintf("%s: %d", r.name, n))
			}
		}
		labels = append(labels, fmt.Sprintf("%s: {%s}", strconv.Quote(label), strings.Join(rules, ", ")))
	}
	return "{" + strings.Join(labels, ", ") + "}"
}
