package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Sources says where a configuration comes from, weakest first: the defaults,
// the file, the environment, the flags.
type Sources struct {
	File    string   // path; empty: no file
	Environ []string // as os.Environ
	Flags   []Flag
}

// Flag is a setting given on the command line.
type Flag struct{ Path, Value string }

// ParseFlag reads KEY=VALUE.
func ParseFlag(text string) (Flag, error) {
	path, value, ok := strings.Cut(text, "=")
	if !ok || path == "" {
		return Flag{}, fmt.Errorf("%q: want KEY=VALUE, such as nbd.max-connections=64", text)
	}
	return Flag{path, value}, nil
}

// clientEnv are the STRONGROOM_ variables that are no settings of the server.
var clientEnv = []string{EnvPrefix + "API", EnvPrefix + "CONFIG"}

// Load puts a configuration together and validates it. Every problem found is
// in the error, each naming its key and, in a file, its line. Warnings name
// environment variables that look like settings and are none.
func Load(src Sources) (c Config, warnings []string, err error) {
	c = NewConfig()
	var problems []error
	if src.File != "" {
		problems = append(problems, c.readFile(src.File))
	}
	warnings, err = c.readEnv(src.Environ)
	problems = append(problems, err)
	for _, f := range src.Flags {
		problems = append(problems, c.setFlag(f))
	}
	if err := errors.Join(problems...); err != nil {
		return c, warnings, errors.Join(err, c.Validate())
	}
	return c, warnings, c.Validate()
}

func (c *Config) setFlag(f Flag) error {
	s, ok := c.find(f.Path)
	if !ok {
		return fmt.Errorf("%s: no such setting", f.Path)
	}
	return s.set(f.Value)
}

func (c *Config) readEnv(environ []string) (warnings []string, err error) {
	byName := map[string]setting{}
	for _, s := range c.settings() {
		byName[s.env()] = s
	}
	var problems []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		// An empty variable is how container platforms write one that is not set.
		if !strings.HasPrefix(name, EnvPrefix) || value == "" || slices.Contains(clientEnv, name) {
			continue
		}
		if s, ok := byName[name]; !ok {
			warnings = append(warnings, "environment variable "+name+" names no setting; ignored")
		} else if err := s.parse(value); err != nil {
			problems = append(problems, fmt.Errorf("%s (%s): %w", name, s.path, err))
		}
	}
	return warnings, errors.Join(problems...)
}

func (c *Config) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, configBytesMax+1))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if len(text) > configBytesMax {
		return fmt.Errorf("configuration %s is larger than %d bytes", path, configBytesMax)
	}
	return inFile(path, c.Decode(text))
}

// inFile puts the file's name before each of the problems joined in err.
func inFile(path string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, fmt.Errorf("%s:%w", path, e))
	}
	return errors.Join(out...)
}

// Decode reads the YAML text of a configuration file over c. It returns every
// problem of its form joined, each beginning with its line; the values are
// checked by Validate.
func (c *Config) Decode(text []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return errors.Join(fmt.Errorf(" %w", err))
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("%d: one YAML document is wanted", max(second.Line, 1)))
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil
	}
	return errors.Join(c.decodeMapping("", doc.Content[0])...)
}

// decodeMapping reads a section. Aliases and merges are refused: a file that is
// read once needs none, and they are how small files become large.
func (c *Config) decodeMapping(prefix string, n *yaml.Node) (problems []error) {
	if n.Kind != yaml.MappingNode {
		return []error{fmt.Errorf("%d: %s: want settings, one per line, as key: value", n.Line, orTop(prefix))}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		switch {
		case seen[key.Value]:
			problems = append(problems, fmt.Errorf("%d: %s: given twice", key.Line, path))
		case c.isSection(path):
			if value.Tag != "!!null" {
				problems = append(problems, c.decodeMapping(path+".", value)...)
			}
		default:
			problems = append(problems, c.decodeLeaf(path, key.Line, value))
		}
		seen[key.Value] = true
	}
	return problems
}

func orTop(prefix string) string {
	if prefix == "" {
		return "the file"
	}
	return strings.TrimSuffix(prefix, ".")
}

func (c *Config) decodeLeaf(path string, line int, value *yaml.Node) error {
	s, ok := c.find(path)
	if !ok {
		return fmt.Errorf("%d: %.200s: unknown key", line, path)
	}
	if n, ok := s.value.Addr().Interface().(interface{ setNode(*yaml.Node) error }); ok {
		if err := n.setNode(value); err != nil {
			return fmt.Errorf("%d: %s: %w", value.Line, path, err)
		}
		return nil
	}
	if value.Kind != yaml.ScalarNode {
		return fmt.Errorf("%d: %s: want one value", value.Line, path)
	}
	text := value.Value
	if value.Tag == "!!null" {
		text = ""
	}
	if err := s.set(text); err != nil {
		return fmt.Errorf("%d: %w", value.Line, err)
	}
	return nil
}

// YAML is the configuration as a file, every setting in it.
func (c *Config) YAML() []byte {
	var out bytes.Buffer
	var open []string
	for _, s := range c.settings() {
		parts := strings.Split(s.path, ".")
		section, key := parts[:len(parts)-1], parts[len(parts)-1]
		for i, name := range section {
			if i >= len(open) || open[i] != name {
				fmt.Fprintf(&out, "%s%s:\n", indent(i), name)
				open = append(open[:i:i], name)
			}
		}
		open = open[:len(section)]
		fmt.Fprintf(&out, "%s%s: %s\n", indent(len(section)), key, yamlScalar(s))
	}
	return out.Bytes()
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// yamlScalar quotes what YAML would read as something else than text.
func yamlScalar(s setting) string {
	text, err := yaml.Marshal(s.text())
	if err != nil {
		return `""`
	}
	switch v := s.value.Interface().(type) {
	case bool, int, float64, Limit, LabelKeep, TextList, SFTPUsers:
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(string(text))
}

// Map is the configuration for JSON: every setting by its path, as text.
func (c *Config) Map() map[string]string {
	m := map[string]string{}
	for _, s := range c.settings() {
		m[s.path] = s.text()
	}
	return m
}
