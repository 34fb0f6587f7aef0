package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// chooseFormat is the flag's format, else the environment's, else a table.
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

// encodeJSON is v in indented lines; angle brackets and ampersands stay
// themselves.
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

// yamlNode writes v at a depth of spaces; inLine says that the line has begun.
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

// yamlChild writes the value of a key: nested ones below it, others beside it.
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

// yamlText is text as a YAML scalar: plain where that can be nothing but text,
// else in JSON's quotes, which YAML reads the same way.
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
