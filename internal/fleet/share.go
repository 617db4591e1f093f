package fleet

import (
	"fmt"
	"strconv"
	"strings"
)

// Share is a part of a whole, 0 to 1. As text it is a percentage.
type Share float64

func (s Share) String() string { return strconv.FormatFloat(float64(s)*100, 'f', -1, 32) + "%" }

// MarshalText writes a percentage.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a percentage from 0% to 100%.
func (s *Share) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(percent >= 0 && percent <= 100) {
		return fmt.Errorf("%q is not a percentage from 0%% to 100%%", text)
	}
	*s = Share(percent / 100)
	return nil
}
