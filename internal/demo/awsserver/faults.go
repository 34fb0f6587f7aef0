package awsserver

import (
	"net/http"
	"time"
)

// Inject adds a fault. If several match a call, the first one counts.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Times == 0 {
		f.Times = -1
	}
	s.faults = append(s.faults, &f)
}

// Clear removes all faults.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// begin counts a call and returns the fault that applies to it.
func (s *Server) begin(action string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[action]++
	for _, f := range s.faults {
		switch {
		case f.Action != "" && f.Action != action || f.Times == 0:
			continue
		case f.Skip > 0:
			f.Skip--
			return nil
		case f.Times > 0:
			f.Times--
		}
		strikes := *f
		return &strikes
	}
	return nil
}

// before runs the part of the fault before the call, and reports whether it has answered.
func (f *Fault) before(w http.ResponseWriter) bool {
	switch f.Mode {
	case Before:
		writeError(w, &apiError{500, "ServiceFailure",
			"The request processing has failed because of an unknown error, exception or failure."})
		return true
	case Throttle:
		writeError(w, &apiError{400, "Throttling", "Rate exceeded"})
		return true
	case Denied:
		writeError(w, &apiError{403, "AccessDenied", "not authorized"})
		return true
	case Slow:
		time.Sleep(f.Wait)
	case Late:
		cut(w)
		time.Sleep(f.Wait)
	}
	return false
}

// after runs the part of the fault after the call, and reports whether it has answered. A
// malformed answer has the right status.
func (f *Fault) after(w http.ResponseWriter, fail *apiError) bool {
	switch f.Mode {
	case Lost:
		cut(w)
		return true
	case Late:
		return true
	case Malformed:
		w.Header().Set("Content-Type", "text/xml")
		if fail != nil {
			w.WriteHeader(fail.status)
		}
		_, _ = w.Write([]byte(`<Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Res`))
		return true
	}
	return false
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
