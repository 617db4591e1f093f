package report

import (
	"math"
	"slices"
)

// Quantile returns the smallest value that at least the share q of all values does
// not exceed (nearest rank); NaN without values.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Median returns the middle value, or the mean of the two in the middle; NaN without
// values.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Spread summarizes several repetitions.
type Spread struct {
	Median, Min, Max float64
	N                int
}

// SpreadOf summarizes values. N is 0 if there are none.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{Median: math.NaN(), Min: math.NaN(), Max: math.NaN()}
	}
	return Spread{Median(values), slices.Min(values), slices.Max(values), len(values)}
}
