package retention

import "errors"

// Keep says how many points each rule keeps; 0 switches a rule off, and all
// rules off means that nothing is ever pruned.
type Keep struct {
	// Last keeps the newest points, whatever their age.
	Last int `json:"keep-last,omitempty" yaml:"keep-last,omitempty"`
	// Hourly keeps the newest point of each of so many hours that have one.
	Hourly int `json:"keep-hourly,omitempty" yaml:"keep-hourly,omitempty"`
	// Daily keeps the newest point of each of so many days that have one.
	Daily int `json:"keep-daily,omitempty" yaml:"keep-daily,omitempty"`
	// Weekly counts ISO 8601 weeks, Monday to Sunday.
	Weekly int `json:"keep-weekly,omitempty" yaml:"keep-weekly,omitempty"`
	// Monthly counts calendar months.
	Monthly int `json:"keep-monthly,omitempty" yaml:"keep-monthly,omitempty"`
	// Yearly counts calendar years.
	Yearly int `json:"keep-yearly,omitempty" yaml:"keep-yearly,omitempty"`
}

var errNegative = errors.New("a keep rule has a count below 0; 0 switches the rule off")

// Everything reports that k keeps every point, because no rule is set.
func (k Keep) Everything() bool {
	return max(k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly) <= 0
}

// Validate refuses counts below 0.
func (k Keep) Validate() error {
	if min(k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly) < 0 {
		return errNegative
	}
	return nil
}
