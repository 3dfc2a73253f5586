package targets

import (
	"encoding/csv"
	"strings"
)

const (
	errCSVShape = reason(`a line with a comma is "rank,domain"`)
	errCSVQuote = reason("the quotes of the CSV line do not match")
)

// splitCSV splits "rank,domain" (Tranco, Umbrella), quoted or not.
func splitCSV(line string) (rank, domain string, err error) {
	if strings.IndexByte(line, '"') >= 0 {
		fields, err := csv.NewReader(strings.NewReader(line)).Read()
		switch {
		case err != nil:
			return "", "", errCSVQuote
		case len(fields) != 2:
			return "", "", errCSVShape
		}
		return strings.TrimSpace(fields[0]), strings.TrimSpace(fields[1]), nil
	}
	rank, domain, _ = strings.Cut(line, ",")
	if strings.IndexByte(domain, ',') >= 0 {
		return "", "", errCSVShape
	}
	return strings.TrimSpace(rank), strings.TrimSpace(domain), nil
}
