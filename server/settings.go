package server

import (
	"encoding"
	"fmt"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
)

// EnvPrefix begins the name of every environment variable of ours.
const EnvPrefix = "STRONGROOM_"

// setting is one leaf of a Config.
type setting struct {
	path  string // nbd.max-connections
	value reflect.Value
}

// env is the setting's environment variable.
func (s setting) env() string {
	return EnvPrefix + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(s.path))
}

// settings lists the leaves of c in the order they are declared.
func (c *Config) settings() []setting {
	return appendSettings(nil, "", reflect.ValueOf(c).Elem())
}

func appendSettings(out []setting, prefix string, v reflect.Value) []setting {
	for i := range v.NumField() {
		path := prefix + v.Type().Field(i).Tag.Get("key")
		if f := v.Field(i); f.Kind() == reflect.Struct {
			out = appendSettings(out, path+".", f)
		} else {
			out = append(out, setting{path, f})
		}
	}
	return out
}

// find returns the setting at a path.
func (c *Config) find(path string) (setting, bool) {
	for _, s := range c.settings() {
		if s.path == path {
			return s, true
		}
	}
	return setting{}, false
}

// isSection reports whether path names a group of settings.
func (c *Config) isSection(path string) bool {
	for _, s := range c.settings() {
		if strings.HasPrefix(s.path, path+".") {
			return true
		}
	}
	return false
}

// set reads text into the setting. The error names the key and what it takes.
func (s setting) set(text string) error {
	if err := s.parse(text); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	return nil
}

func (s setting) parse(text string) error {
	if mode, ok := s.value.Addr().Interface().(*fs.FileMode); ok {
		return parseMode(mode, text)
	}
	if u, ok := s.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch s.value.Kind() {
	case reflect.Bool:
		switch text {
		case "true", "false":
			s.value.SetBool(text == "true")
			return nil
		}
		return fmt.Errorf("%.40q: want true or false", text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%.40q: want a whole number", text)
		}
		s.value.SetInt(int64(n))
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%.40q: want a number, such as 0.25", text)
		}
		s.value.SetFloat(x)
	default:
		s.value.SetString(text)
	}
	return nil
}

func parseMode(mode *fs.FileMode, text string) error {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%.40q: want an octal file mode, such as 0600", text)
	}
	*mode = fs.FileMode(n)
	return nil
}

// text is the setting's value as set reads it.
func (s setting) text() string {
	switch v := s.value.Interface().(type) {
	case fs.FileMode:
		return fmt.Sprintf("%04o", uint32(v))
	case fmt.Stringer:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}
