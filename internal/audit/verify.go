package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxLine is the longest line that is read back.
const MaxLine = 64 << 20

// maxProblems limits the problems in a report.
const maxProblems = 100

// A Report is what [Verify] found.
type Report struct {
	Lines    int      // whole lines
	Torn     int      // lines torn by a crash or a full disk, and declared by the line after them
	First    Position // of the first whole line
	Last     Position // of the last whole line, which the next file must continue
	Problems []Problem
}

// OK reports whether the lines are an unbroken chain.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// A Problem is one break of the chain.
type Problem struct {
	Line int    // counted from 1
	Text string // what is wrong
}

// Verify reads the lines of one device, and checks that each follows the one before. The first
// line may have any sequence, because older files may be gone. To verify several files, use
// [VerifyAfter]. An error means that r could not be read.
func Verify(r io.Reader) (Report, error) {
	v := verifier{}
	return v.run(r)
}

// VerifyAfter is Verify for a file that must continue after p: the Last of the previous file, or a
// position that is stored elsewhere. For the first file, p is zero.
func VerifyAfter(p Position, r io.Reader) (Report, error) {
	v := verifier{last: p, joined: true}
	return v.run(r)
}

type verifier struct {
	report Report
	last   Position
	joined bool // last is known
	line   int  // number of the line being read
	junk   int  // bytes since the last whole line that form no line
	torn   int  // lines of junk
}

func (v *verifier) run(r io.Reader) (Report, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for {
		chunk, err := in.ReadSlice('\n')
		if len(line)+len(chunk) > MaxLine {
			return v.report, fmt.Errorf("audit: line %d is longer than %d bytes", v.line+1, MaxLine)
		}
		line = append(line, chunk...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == nil:
			v.step(bytes.TrimSuffix(line, []byte{'\n'}))
			line = line[:0]
			continue
		case errors.Is(err, io.EOF):
			v.end(line)
			return v.report, nil
		}
		return v.report, fmt.Errorf("audit: reading after line %d: %w", v.line, err)
	}
}

func (v *verifier) step(line []byte) {
	v.line++
	t, ok := parseTrailer(line)
	if !ok {
		v.junk += len(line) + 1
		v.torn++
		return
	}
	switch {
	case v.junk == t.torn:
		v.report.Torn += v.torn
	case t.torn == 0:
		v.problem("%d bytes before it are no audit line, and it does not say that a line was torn", v.junk)
	default:
		v.problem("it says that %d bytes before it were torn; there are %d", t.torn, v.junk)
	}
	v.junk, v.torn = 0, 0
	v.link(t)
	v.last = Position{Sequence: t.sequence, Hash: hashLine(line)}
	if v.report.Lines == 0 {
		v.report.First = v.last
	}
	v.report.Lines++
	v.report.Last, v.joined = v.last, true
}

// link checks that t follows the last line.
func (v *verifier) link(t trailer) {
	switch {
	case !v.joined:
	case t.sequence == v.last.Sequence+1 && t.previous == v.last.Hash:
	case t.sequence == v.last.Sequence+1:
		v.problem("the line before it was changed: its hash is not the one that line %d of the device names",
			t.sequence)
	case t.sequence > v.last.Sequence+1:
		v.problem("%d lines are missing before it: sequence %d follows %d", t.sequence-v.last.Sequence-1, t.sequence,
			v.last.Sequence)
	default:
		v.problem("sequence %d follows %d: lines were put in or moved, or the file belongs to another device",
			t.sequence, v.last.Sequence)
	}
}

func (v *verifier) end(rest []byte) {
	if len(rest) > 0 {
		v.line++
		v.problem("the last line is not complete")
	} else if v.junk > 0 {
		v.problem("the last %d bytes are no audit line", v.junk)
	}
}

func (v *verifier) problem(format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, Problem{Line: v.line, Text: fmt.Sprintf(format, args...)})
	}
}
