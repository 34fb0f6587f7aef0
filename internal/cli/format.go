package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// chooseFormat returns the format of the flag or of the environment; the default is a table.
func chooseFormat(flag, environment string) (string, error) {
	name := flag
	if name == "" {
		name = environment
	}
	switch strings.ToLower(name) {
	case "", "table", "pretty":
		return "table", nil
	case "json":
		return "json", nil
	case "yaml", "yml":
		return "yaml", nil
	case "raw":
		return "raw", nil
	}
	return "", usagef("unknown output format %q; use table, json, yaml or raw", name)
}

// encodeJSON returns v as indented JSON, in which angle brackets and ampersands are not escaped.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// toYAML turns JSON into block-style YAML; keys are sorted.
func toYAML(b []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	yamlNode(&out, v, 0, false)
	return out.Bytes(), nil
}

// yamlNode writes v with an indent of depth spaces. inLine means that the line has begun.
func yamlNode(out *bytes.Buffer, v any, depth int, inLine bool) {
	pad := strings.Repeat(" ", depth)
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			out.WriteString("{}\n")
			return
		}
		for _, key := range sortedKeys(v) {
			if !inLine {
				out.WriteString(pad)
			}
			inLine = false
			out.WriteString(yamlText(key) + ":")
			yamlChild(out, v[key], depth)
		}
	case []any:
		if len(v) == 0 {
			out.WriteString("[]\n")
			return
		}
		for _, item := range v {
			if !inLine {
				out.WriteString(pad)
			}
			inLine = false
			out.WriteString("- ")
			yamlNode(out, item, depth+2, true)
		}
	case string:
		out.WriteString(yamlText(v) + "\n")
	case nil:
		out.WriteString("null\n")
	default:
		fmt.Fprintln(out, v)
	}
}

// yamlChild writes the value of a key: a nested value on the next lines, another one on the same
// line.
func yamlChild(out *bytes.Buffer, v any, depth int) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 {
			out.WriteByte('\n')
			yamlNode(out, v, depth+2, false)
			return
		}
	case []any:
		if len(v) > 0 {
			out.WriteByte('\n')
			yamlNode(out, v, depth, false)
			return
		}
	}
	out.WriteByte(' ')
	yamlNode(out, v, depth, true)
}

// yamlText returns text as a YAML scalar. It quotes text that YAML could read as another type,
// with JSON's quotes, which are valid in YAML.
func yamlText(text string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	const plain = letters + "0123456789_-./"
	words := []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
	if text != "" && strings.Contains(letters, text[:1]) && strings.Trim(text, plain) == "" &&
		!slices.Contains(words, strings.ToLower(text)) {
		return text
	}
	b, err := encodeJSON(text)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSpace(string(b))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
