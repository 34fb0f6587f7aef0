package rotate

import "testing"

// TestOldJournalRow: rows that earlier versions stored keep the number of their rotation.
func TestOldJournalRow(t *testing.T) {
	for text, want := range map[string]uint32{
		`{"what":"created","turn":7}`:     7,
		`{"what":"created","rotation":8}`: 8,
		`{"what":"created"}`:              0,
	} {
		row, err := decodeJournalRow([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if row.Turn != want || row.What != "created" {
			t.Errorf("%s is read as %q of rotation %d, want %d", text, row.What, row.Turn, want)
		}
	}
	if _, err := decodeJournalRow([]byte("{")); err == nil {
		t.Error("a damaged row is read")
	}
}
