package cli

import (
	"fmt"
	"path"
	"strings"
)

// A target is where a request goes, below /v1/, as the server receives it: the
// path that the user typed, unchanged. The API library would fold dot and empty
// segments and cut slashes off, so a target has none; what has is refused, and
// the error shows the form without them.
//
// A constant in the code is a target as it stands. What was typed becomes one
// through [exact], [folder] or [target.with] alone.
type target string

// exact is a typed path that names one thing. It has no slash at its ends.
func exact(typed string) (target, error) { return target(typed).checked() }

// folder is a typed path that may have others below it: of a mount, a listing or
// a prefix. The API prints these with a slash at the end, so one is accepted.
func folder(typed string) (target, error) {
	t, err := exact(strings.TrimSuffix(typed, "/"))
	if err != nil {
		_, err = exact(typed) // the error shows what was typed
	}
	return t, err
}

// with is t and a typed name below it.
func (t target) with(name string) (target, error) {
	if _, err := exact(name); err != nil {
		return "", err
	}
	return t.below(target(name)), nil
}

// sentTo is the target of a request that is on its way.
func sentTo(path string) target { return target(path) }

// below is t and then rest; either may be empty.
func (t target) below(rest target) target {
	if t == "" || rest == "" {
		return t + rest
	}
	return t + "/" + rest
}

// cut is t below top; empty where t is top.
func (t target) cut(top target) (target, error) {
	if t == top {
		return "", nil
	}
	rest, below := strings.CutPrefix(string(t), string(top)+"/")
	if !below {
		return "", fmt.Errorf("the server says that %s is below %s/", t, top)
	}
	return exact(rest)
}

// checked refuses a path that would not arrive as it is.
func (t target) checked() (target, error) {
	typed := string(t)
	switch {
	case typed == "":
		return "", usagef("a path or name is empty; give one")
	case strings.HasPrefix(typed, "/"):
		return "", notCanonical(typed, "begins with a slash")
	case strings.HasSuffix(typed, "/"):
		return "", notCanonical(typed, "ends in a slash")
	}
	for segment := range strings.SplitSeq(typed, "/") {
		switch segment {
		case "":
			return "", notCanonical(typed, "has an empty segment")
		case ".", "..":
			return "", notCanonical(typed, fmt.Sprintf("has the segment %q", segment))
		}
	}
	return t, nil
}

// notCanonical is the error for a path that the API library would change.
func notCanonical(typed, why string) error {
	canonical := strings.Trim(path.Clean("/"+typed), "/")
	if canonical == "" {
		return usagef("the path %q %s; write one without, such as %q", typed, why, "secret/app")
	}
	return usagef("the path %q %s; write %q", typed, why, canonical)
}
