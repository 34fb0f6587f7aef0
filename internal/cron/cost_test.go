package cron

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzScheduleCost: reading a schedule, and looking for its times, cost a bounded number of steps.
// One that never comes is looked for through eight years.
func FuzzScheduleCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxText, Steps: 20_000, Parse: func(text string) error {
		if _, err := Parse(text); err != nil {
			return err
		}
		w := When{Schedule: text}
		w.Shortest(noon)
		w.Next(noon, noon)
		return nil
	}}, costtest.Shape{Unit: "0,", Tail: "0 3 * * SAT"}, costtest.Shape{Head: "0 0 29 2 ", Unit: "0,", Tail: "1"},
		costtest.Shape{Head: "59 23 31 ", Unit: "2,", Tail: "2 *"},
		costtest.Shape{Unit: "1-59/1,", Tail: "1 * * * *"}, costtest.Shape{Unit: "* "}, costtest.Shape{Unit: "9"},
		costtest.Shape{Head: "*/", Unit: "9", Tail: " * * * *"}, costtest.Shape{Head: "0 0 30 2 * ", Unit: " "})
}

// FuzzBlackoutCost: reading black-out dates, and looking for the first moment after them, cost a
// bounded number of steps. Dates that leave no day are looked through for eight years.
func FuzzBlackoutCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxDates, Steps: 20_000, Parse: func(text string) error {
		b, err := ParseBlackout(strings.Split(text, ","))
		if err == nil {
			b.After(noon)
		}
		return err
	}}, costtest.Shape{Unit: "2030-06-05,", Tail: "2030-06-06"}, costtest.Shape{Unit: "01-01/12-31,", Tail: "06-05"},
		costtest.Shape{Unit: "2000-01-01/2999-12-31,", Tail: "06-05"}, costtest.Shape{Unit: ","},
		costtest.Shape{Unit: "9"}, costtest.Shape{Head: "12-24/", Unit: "01-02/"})
}
