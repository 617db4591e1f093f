package view

import (
	"bytes"
	"encoding/json"
)

// A quantity is a number of any size: 1e1999999998 is one, and written out it has two gigabytes. Whoever may write a
// DaemonSet, a StatefulSet or a revision chooses the numbers of its template. The API server only compares them with
// zero. So data with such a number are not decoded.
const (
	// maxExponent is how many digits the exponent of a number may have.
	maxExponent = 2
	// maxNumber is how many characters a number may have before its exponent.
	maxNumber = 64
)

// hasLongNumber reports whether a number in the data, or a text where a template has a quantity, is too long to be decoded.
// Other texts may look like numbers: 1e98765 is the beginning of a commit's name. The data are JSON; of other data it may
// say anything.
func hasLongNumber(data []byte) bool {
	var within []bool // for each object that has begun: it is a list of quantities by name
	key := ""
	for len(data) > 0 {
		switch c := data[0]; {
		case c == '"':
			end := endOfText(data)
			text := unescaped(data[:end])
			data = data[end:]
			switch {
			case isBefore(data, ':'):
				key = string(text)
			case isQuantity(key) || len(within) > 0 && within[len(within)-1]:
				if isLongNumber(text) {
					return true
				}
			}
		case c == '-' || '0' <= c && c <= '9':
			end := bytes.IndexAny(data, ",]} \t\r\n")
			if end < 0 {
				end = len(data)
			}
			if isLongNumber(data[:end]) {
				return true
			}
			data = data[end:]
		case c == '{':
			within, key, data = append(within, hasQuantities(key)), "", data[1:]
		case c == '}':
			within, data = within[:max(len(within)-1, 0)], data[1:]
		default:
			data = data[1:]
		}
	}
	return false
}

// isQuantity reports whether a template has a quantity in a field of that name.
func isQuantity(field string) bool { return field == "sizeLimit" || field == "divisor" }

// hasQuantities reports the same of the values below a field of that name.
func hasQuantities(field string) bool {
	return field == "limits" || field == "requests" || field == "overhead"
}

// isBefore reports whether the data begin with c, after white space.
func isBefore(data []byte, c byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == c
}

// endOfText returns where the JSON string ends with which the data begin, after its last quote.
func endOfText(data []byte) int {
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// unescaped returns the text of a JSON string with its quotes.
func unescaped(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return bytes.Trim(quoted, `"`)
	}
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return nil // nobody can decode it
	}
	return []byte(text)
}

// isLongNumber reports whether the text is a number, possibly with a unit, that is too long.
func isLongNumber(text []byte) bool {
	text = bytes.TrimLeft(text, "+-")
	rest := bytes.TrimLeft(text, "0123456789.")
	long := len(text)-len(rest) > maxNumber
	switch {
	case len(rest) == len(text):
		return false
	case len(rest) <= len("Ki"):
		return long
	case rest[0] != 'e' && rest[0] != 'E':
		return false // it only begins like a number
	}
	exponent := bytes.TrimLeft(rest[1:], "+-")
	if len(bytes.TrimLeft(exponent, "0123456789")) > 0 {
		return false
	}
	return long || len(bytes.TrimLeft(exponent, "0")) > maxExponent
}
