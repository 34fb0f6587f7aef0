package cli

import (
	"fmt"
	"path"
	"strings"
)

// A target is the path of a request, below /v1/, as the user typed it and as the server receives
// it. The API library would resolve dot segments and remove empty segments and slashes, so a path
// that has them is refused, with an error that shows the path without them.
//
// A constant in the code may be a target. A typed path becomes a target only through [exact],
// [folder] or [target.child].
type target string

// exact returns the target of a typed path that has no slash at either end.
func exact(typed string) (target, error) { return target(typed).canonical() }

// folder returns the target of a mount, a listing or a prefix. It accepts a slash at the end,
// because the API prints these paths with one.
func folder(typed string) (target, error) {
	t, err := exact(strings.TrimSuffix(typed, "/"))
	if err != nil {
		_, err = exact(typed) // the error shows what was typed
	}
	return t, err
}

// child returns the target of a typed name below t.
func (t target) child(name string) (target, error) {
	if _, err := exact(name); err != nil {
		return "", err
	}
	return t.below(target(name)), nil
}

// sentTo returns the target of a request that the API library is about to send.
func sentTo(path string) target { return target(path) }

// below joins t and rest. Either may be empty.
func (t target) below(rest target) target {
	if t == "" || rest == "" {
		return t + rest
	}
	return t + "/" + rest
}

// relativeTo returns the part of t below top. It is empty if t is top.
func (t target) relativeTo(top target) (target, error) {
	if t == top {
		return "", nil
	}
	rest, below := strings.CutPrefix(string(t), string(top)+"/")
	if !below {
		return "", fmt.Errorf("the server says that %s is below %s/", t, top)
	}
	return exact(rest)
}

// canonical refuses a path that the API library would change.
func (t target) canonical() (target, error) {
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

// notCanonical returns the error for a path that the API library would change.
func notCanonical(typed, why string) error {
	canonical := strings.Trim(path.Clean("/"+typed), "/")
	if canonical == "" {
		return usagef("the path %q %s; write one without, such as %q", typed, why, "secret/app")
	}
	return usagef("the path %q %s; write %q", typed, why, canonical)
}
