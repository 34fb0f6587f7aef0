package recipe

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRecorded plays every recipe's recorded exchanges; a recipe without them fails.
func TestRecorded(t *testing.T) {
	definitions, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	if len(definitions) == 0 {
		t.Fatal("there are no recipes")
	}
	for _, d := range definitions {
		t.Run(d.Name, func(t *testing.T) {
			script, err := os.ReadFile(filepath.Join("../../../../recipes/testdata", d.Name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := Provider.Test(t.Context(), d, script); err != nil {
				t.Error(err)
			}
		})
	}
}
