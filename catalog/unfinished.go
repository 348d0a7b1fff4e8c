package catalog

import "errors"

var errUnfinished = errors.New("unfinished")
