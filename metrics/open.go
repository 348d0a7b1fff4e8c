package metrics

import "time"

// Opened is how the databases were opened when the server started.
type Opened struct {
	Catalog, Index DatabaseOpen
}

// DatabaseOpen is how one database was opened.
type DatabaseOpen struct {
	Took    time.Duration
	Rebuilt bool // made anew, from the packs or the metadata log
}

var (
	dbRebuilt = gauge("database_rebuilt", "1 when the database was lost or of no use and was made anew when the server started.", "db")
	dbOpen    = gauge("database_open_seconds", "Time that opening the database took when the server started.", "db")
)

func collectOpened(to sink, o Opened) {
	put(to, dbRebuilt, truth(o.Catalog.Rebuilt), "catalog")
	put(to, dbRebuilt, truth(o.Index.Rebuilt), "index")
	put(to, dbOpen, o.Catalog.Took.Seconds(), "catalog")
	put(to, dbOpen, o.Index.Took.Seconds(), "index")
}
