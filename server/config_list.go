package server

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// Settings that are lists. In a file they are YAML lists; in a flag or a
// variable the same list on one line, as their String prints it.

// TextList is a list of strings.
type TextList []string

// SFTPUsers is the list of users. Its String has the hashes of passwords.
type SFTPUsers []SFTPUser

var (
	errWantList  = errors.New(`want a list, such as ["a", "b"]`)
	errWantUsers = errors.New(`want a list of users, such as [{name: hv1, vms: ["web-*"], keys: ["ssh-ed25519 AAAA… root@hv1"]}]`)
)

// UnmarshalText reads the list from one line.
func (l *TextList) UnmarshalText(text []byte) error { return fromLine(text, l.setNode, errWantList) }

// UnmarshalText reads the list from one line.
func (l *SFTPUsers) UnmarshalText(text []byte) error { return fromLine(text, l.setNode, errWantUsers) }

// fromLine gives the YAML on a line to set, which must not take text.
func fromLine(text []byte, set func(*yaml.Node) error, want error) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return want
	}
	if len(doc.Content) == 0 {
		doc.Content = []*yaml.Node{{Kind: yaml.SequenceNode, Tag: "!!seq"}}
	}
	if doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].Tag == "!!str" {
		return want
	}
	return set(doc.Content[0])
}

// setNode reads the list from a file, where it may be text too.
func (l *TextList) setNode(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		return l.UnmarshalText([]byte(n.Value))
	}
	list, err := textsNode(n)
	if err != nil {
		return err
	}
	*l = list
	return nil
}

func (l *SFTPUsers) setNode(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		return l.UnmarshalText([]byte(n.Value))
	}
	if n.Tag != "!!null" && n.Kind != yaml.SequenceNode {
		return errWantUsers
	}
	var out SFTPUsers
	for i, item := range n.Content {
		u, err := userNode(item)
		if err != nil {
			return fmt.Errorf("line %d: user %s: %w", item.Line, u.orNumber(i), err)
		}
		out = append(out, u)
	}
	*l = out
	return nil
}

// orNumber names a user, by its place in the list when it has no name.
func (u *SFTPUser) orNumber(i int) string {
	if u.Name == "" {
		return fmt.Sprint(i + 1)
	}
	return fmt.Sprintf("%.80q", u.Name)
}

// textsNode reads a list of strings; an empty one is nil.
func textsNode(n *yaml.Node) (out []string, err error) {
	if n.Tag != "!!null" && n.Kind != yaml.SequenceNode {
		return nil, errWantList
	}
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, errWantList
		}
		out = append(out, item.Value)
	}
	return out, nil
}

// userField is a setting of a user.
type userField struct {
	name string
	at   any // *string, *bool, *[]string or *units.Size
}

func (u *SFTPUser) fields() []userField {
	return []userField{
		{"name", &u.Name}, {"vm", &u.VM}, {"vms", &u.VMs}, {"keys", &u.Keys}, {"principals", &u.Principals},
		{"password-hash", &u.PasswordHash}, {"restore", &u.Restore}, {"read-only", &u.ReadOnly},
		{"commit-on-rename", &u.CommitOnRename}, {"quota", &u.Quota},
	}
}

func userNode(n *yaml.Node) (u SFTPUser, err error) {
	if n.Kind != yaml.MappingNode {
		return u, errWantUsers
	}
	seen := map[string]bool{}
	var problems []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if seen[key] {
			problems = append(problems, fmt.Errorf("%.40s: given twice", key))
			continue
		}
		seen[key] = true
		if err := u.setField(key, n.Content[i+1]); err != nil {
			problems = append(problems, fmt.Errorf("%.40s: %w", key, err))
		}
	}
	return u, errors.Join(problems...)
}

func (u *SFTPUser) setField(key string, value *yaml.Node) (err error) {
	fields := u.fields()
	i := slices.IndexFunc(fields, func(f userField) bool { return f.name == key })
	if i < 0 {
		var names []string
		for _, f := range fields {
			names = append(names, f.name)
		}
		return fmt.Errorf("no such setting of a user; there are %s", strings.Join(names, ", "))
	}
	if list, ok := fields[i].at.(*[]string); ok {
		*list, err = textsNode(value)
		return err
	}
	if value.Kind != yaml.ScalarNode {
		return errors.New("want one value")
	}
	text := value.Value
	if value.Tag == "!!null" {
		text = ""
	}
	switch at := fields[i].at.(type) {
	case *string:
		*at = text
	case *bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%.40q: want true or false", text)
		}
		*at = text == "true"
	case *units.Size:
		return at.UnmarshalText([]byte(text))
	}
	return nil
}

// String is the list on one line.
func (l TextList) String() string { return "[" + strings.Join(quoted(l), ", ") + "]" }

// quoted makes strings of YAML.
func quoted(list []string) (out []string) {
	for _, s := range list {
		out = append(out, quote(s))
	}
	return out
}

// quote makes a string that YAML reads as s.
func quote(s string) string { return strconv.QuoteToASCII(strings.ToValidUTF8(s, "\uFFFD")) }

// String is the list on one line.
func (l SFTPUsers) String() string {
	var users []string
	for _, u := range l {
		users = append(users, u.line())
	}
	return "[" + strings.Join(users, ", ") + "]"
}

// line is a user on one line, without what is not set.
func (u *SFTPUser) line() string {
	var out []string
	for _, f := range u.fields() {
		text := ""
		switch at := f.at.(type) {
		case *string:
			if *at != "" {
				text = quote(*at)
			}
		case *bool:
			if *at {
				text = "true"
			}
		case *units.Size:
			if *at != 0 {
				text = at.String()
			}
		case *[]string:
			if *at != nil {
				text = TextList(*at).String()
			}
		}
		if text != "" {
			out = append(out, f.name+": "+text)
		}
	}
	return "{" + strings.Join(out, ", ") + "}"
}
