// Package api is the control API as its clients see it: the JSON of requests
// and answers, the error codes, and a client over a unix socket or a URL.
//
// The shapes are a contract (openapi.yaml, served at /api/v1/openapi.yaml, says
// them formally): fields are added, never renamed or removed. Sizes are bytes,
// times RFC 3339 in UTC, ids and tokens opaque strings.
package api
