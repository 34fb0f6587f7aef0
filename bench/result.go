package main

// A result is one row of the table.
type result struct {
	Row      string  `json:"row"`
	Keyturn  float64 `json:"keyturn"`
	Against  float64 `json:"against,omitempty"`
	Unit     string  `json:"unit"`
	Ratio    float64 `json:"ratio,omitempty"`
	Budget   string  `json:"budget"`
	Met      bool    `json:"met"`
	Skipped  string  `json:"skipped,omitempty"`
	decimals int
}
