package rotate

import (
	"cmp"
	"fmt"
	"time"
)

// alerts are the alerts of a record that stand at once, at most one of each sort. Except in
// alertPerson, one sort never ends another. Otherwise somebody who can cause one alert, by writing
// a secret or by stopping a provider, could hide another.
type alerts struct{ place, step, person *Alert }

func (r *Record) alerts() (all alerts) {
	for a := r.Alert; a != nil; a = a.Before {
		switch {
		case a.Place:
			all.place = cmp.Or(all.place, a)
		case a.Step != "":
			all.step = cmp.Or(all.step, a)
		default:
			all.person = cmp.Or(all.person, a)
		}
	}
	return all
}

// setAlerts stores alerts, the gravest first: what consumers read, then what fails now, then what
// waits for a person.
func (r *Record) setAlerts(all alerts) {
	r.Alert = nil
	for _, a := range []*Alert{all.person, all.step, all.place} {
		if a != nil {
			next := *a
			next.Before = r.Alert
			r.Alert = &next
		}
	}
}

// AlertText returns the text of all alerts of a record, and the time of the oldest one.
func (r *Record) AlertText() (text string, since time.Time) { return r.alertTextExcept("") }

// alertTextExcept is AlertText without the alert whose text is known.
func (r *Record) alertTextExcept(known string) (text string, since time.Time) {
	for a := r.Alert; a != nil; a = a.Before {
		if a.Text == known {
			continue
		}
		if text != "" {
			text += "; also: "
		}
		text += a.Text
		if since.IsZero() || a.At.Before(since) {
			since = a.At
		}
	}
	return text, since
}

// Reviewed ends the alerts that wait for a person or are about failing calls. An alert about what
// consumers read stays until they read the right value.
func (r *Record) Reviewed() { r.setAlerts(alerts{place: r.alerts().place}) }

// alertPerson raises an alert that waits for a person. The new alert replaces the one about
// failing calls, because the new alert reports how those calls ended.
func (e *Edit) alertPerson(format string, args ...any) {
	all := e.Rec.alerts()
	was := cmp.Or(all.step, all.person)
	all.step = nil
	all.person = e.newAlert(was, Alert{Text: fmt.Sprintf(format, args...)})
	e.Rec.setAlerts(all)
}

// alertStep raises an alert about the calls of a state.
func (e *Edit) alertStep(step State, text string) {
	all := e.Rec.alerts()
	all.step = e.newAlert(cmp.Or(all.step, all.person), Alert{Text: text, Step: step})
	e.Rec.setAlerts(all)
}

// alertPlace raises an alert about what consumers read.
func (e *Edit) alertPlace(about, format string, args ...any) {
	all := e.Rec.alerts()
	all.place = e.newAlert(all.place,
		Alert{Text: e.name() + ": " + fmt.Sprintf(format, args...), Place: true, About: about})
	e.Rec.setAlerts(all)
}

// alertedAbout reports whether there is already an alert about what the place holds.
func alertedAbout(e *Edit, about string) bool {
	a := e.Rec.alerts().place
	return a != nil && a.About == about
}

// newAlert makes an alert. The new alert keeps the time of the alert that it replaces, because
// trouble that carries over from one rotation to the next began with the first.
func (e *Edit) newAlert(was *Alert, a Alert) *Alert {
	a.At = e.Now
	if was != nil {
		a.At = was.At
	}
	if was == nil || was.Text != a.Text {
		e.addDetail("alert", a.Text)
	}
	return &a
}

// endPlaceAlert ends the alert about what consumers read, because they read the right value.
func (e *Edit) endPlaceAlert() {
	all := e.Rec.alerts()
	all.place = nil
	e.Rec.setAlerts(all)
}

// callSucceeded records that a call of the present state has succeeded. The alert about that
// state's failing calls ends.
func callSucceeded(e *Edit) {
	t := e.turn()
	t.Tries = 0
	all := e.Rec.alerts()
	switch {
	case e.Rec.Alert == nil:
		e.Rec.LastError = ""
		return
	case all.step == nil || all.step.Step != t.State:
		return
	}
	all.step, e.Rec.LastError = nil, ""
	e.Rec.setAlerts(all)
}

// pauseWithAlert raises an alert and pauses the record until a person resumes it.
func (e *Edit) pauseWithAlert(format string, args ...any) {
	e.alertPerson(format, args...)
	e.Rec.Paused = &Pause{At: e.Now, Reason: e.Rec.alerts().person.Text, Auto: true}
}
