package api

// Keep says how many points each rule keeps; 0 switches a rule off. All off
// means that nothing is pruned.
type Keep struct {
	Last    int `json:"last,omitempty"`
	Hourly  int `json:"hourly,omitempty"`
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
	Yearly  int `json:"yearly,omitempty"`
}

// Policy is how a VM's points are kept and chained. What is nil is the
// server's. Of FullAfter, ChainLimit and ManualWarn, 0 means off.
type Policy struct {
	Keep *Keep `json:"keep,omitempty"`
	// LabelKeep has the rules for points with a label, by "key=value".
	LabelKeep map[string]Keep `json:"label_keep,omitempty"`
	// FullAfter is how many incrementals follow a full in mode auto.
	FullAfter *int `json:"full_after,omitempty"`
	// ChainLimit is how many images may hang on one another.
	ChainLimit *int `json:"chain_limit,omitempty"`
	// ManualWarn is the number of manual points above which a warning is given.
	ManualWarn *int `json:"manual_warn,omitempty"`
	// StrictChains lets a full's incrementals go only after a newer full exists.
	StrictChains *bool `json:"strict_chains,omitempty"`
	// TrashSeconds is how long deleted points can be undeleted.
	TrashSeconds *int64 `json:"trash_seconds,omitempty"`
}

// VMPolicy is what is set for a VM, and what that comes to.
type VMPolicy struct {
	VM        string `json:"vm"`
	Own       Policy `json:"own"`
	Effective Policy `json:"effective"`
}
