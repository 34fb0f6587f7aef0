package fault

// Nearest returns the known word that word is probably a misspelling of, for "did you mean", or
// "".
func Nearest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(word, k); d < distance && d < len(word) {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is the number of letters to insert, delete or change to turn a
// into b. For words of very different lengths, it is only their length, which is far enough.
func editDistance(a, b string) int {
	if n := max(len(a), len(b)); n-min(len(a), len(b)) > 8 {
		return n
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
