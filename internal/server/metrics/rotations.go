package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyturn/keyturn/internal/rotate"
)

// The series of rotations. Those with a path belong to single credentials, and exist for a limited
// number of them, failing ones first; those with only a mount count all of its credentials.
var (
	rotationCounts = desc("keyturn_rotation_credentials",
		"Credentials that rotate, by mount and by the state they are in: scheduled, or that of the "+
			"rotation in flight.",
		"mount",
		"state")
	rotationAlerts = desc("keyturn_rotation_credentials_alerting",
		"Credentials whose rotation needs a person: rotate status says what to do.", "mount")
	rotationFails = desc("keyturn_rotation_credentials_failing",
		"Credentials whose last rotation, or the present step of one, has failed.", "mount")
	rotationLate = desc("keyturn_rotation_credentials_overdue",
		"Credentials whose rotation is more than ten minutes late.", "mount")
	rotationPaused = desc("keyturn_rotation_credentials_paused",
		"Credentials whose rotation is paused, by a person or because it needs one.", "mount")
	rotationHidden = desc("keyturn_rotation_credentials_unlisted",
		"Credentials that are counted by mount alone, because rotation_metrics_limit leaves out series of their own.",
		"mount")
	rotationBraked = desc("keyturn_rotation_braked", "Whether rotation is stopped for the mount by brake=true.",
		"mount")
	rotationErrors = desc("keyturn_rotation_step_failures_total",
		"Steps of rotations that failed, by the step and by the class of the error: that of the provider's reply, "+
			"or server.",
		"mount", "step", "class")
	rotationMissed = desc("keyturn_rotation_missed_windows_total",
		"Rotations that were not done before the end of their window; the next one counts.", "mount")

	oneState = desc("keyturn_rotation_state", "Always 1; the state that the credential is in is a label.", "mount",
		"path", "state")
	oneAge = desc("keyturn_rotation_age_seconds", "How long the credential has been the current one.", "mount",
		"path")
	oneOverdue = desc("keyturn_rotation_overdue_seconds",
		"How long the rotation of the credential has been due; 0 unless it is more than ten minutes late.", "mount",
		"path")
	oneFailures = desc("keyturn_rotation_failures", "Rotations of the credential that have failed in a row.", "mount",
		"path")
	oneAttempts = desc("keyturn_rotation_failed_attempts",
		"Attempts in a row that have failed of the present step of the rotation in flight.", "mount", "path")
	oneNext = desc("keyturn_rotation_next_step_seconds",
		"How long until the next step is due; absent where none is planned.", "mount", "path")
	oneAlert = desc("keyturn_rotation_alert",
		"Whether the rotation of the credential needs a person: rotate status says what to do.", "mount", "path")
	onePaused = desc("keyturn_rotation_paused", "Whether the rotation of the credential is paused.", "mount", "path")
)

func collectRotations(to chan<- prometheus.Metric, all []rotate.Tally) {
	for i := range all {
		t, mount := &all[i], label(all[i].Mount)
		for state, n := range t.States {
			gauge(to, rotationCounts, float64(n), mount, string(state))
		}
		gauge(to, rotationAlerts, float64(t.Alerts), mount)
		gauge(to, rotationFails, float64(t.Failing), mount)
		gauge(to, rotationLate, float64(t.Overdue), mount)
		gauge(to, rotationPaused, float64(t.Paused), mount)
		gauge(to, rotationBraked, truth(t.Braked), mount)
		counter(to, rotationMissed, float64(t.Missed), mount)
		for what, n := range t.Failed {
			counter(to, rotationErrors, float64(n), mount, string(what.Step), what.Class)
		}
		listed := map[string]bool{} // a repeated series would make the whole scrape fail
		for _, s := range t.Standings {
			if path := label(s.Path); !listed[path] {
				listed[path] = true
				collectStanding(to, &s, mount, path)
			}
		}
		gauge(to, rotationHidden, float64(t.Records()-int64(len(listed))), mount)
	}
}

func collectStanding(to chan<- prometheus.Metric, s *rotate.Standing, mount, path string) {
	gauge(to, oneState, 1, mount, path, string(s.State))
	if s.Age >= 0 {
		gauge(to, oneAge, s.Age.Seconds(), mount, path)
	}
	gauge(to, oneOverdue, s.Overdue.Seconds(), mount, path)
	gauge(to, oneFailures, float64(s.Failures), mount, path)
	gauge(to, oneAttempts, float64(s.Attempts), mount, path)
	if s.NextStep >= 0 {
		gauge(to, oneNext, s.NextStep.Seconds(), mount, path)
	}
	gauge(to, oneAlert, truth(s.Alert), mount, path)
	gauge(to, onePaused, truth(s.Paused), mount, path)
}

// label is a text that users choose as the value of a label, which is valid UTF-8.
func label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
