package server

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/strongroom-backup/strongroom/server/api"
)

type openapiDoc struct {
	Paths      map[string]map[string]yaml.Node `yaml:"paths"`
	Components struct {
		Schemas map[string]struct {
			Required   []string             `yaml:"required"`
			Properties map[string]yaml.Node `yaml:"properties"`
		} `yaml:"schemas"`
	} `yaml:"components"`
}

func readOpenAPI(t *testing.T) (doc openapiDoc) {
	t.Helper()
	if err := yaml.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Every route is described with its access, and every description has a route.
func TestOpenAPIRoutes(t *testing.T) {
	names := map[access]string{accessAnyone: "anyone", accessNames: "names", accessFull: "full"}
	described := map[string]string{}
	for path, methods := range readOpenAPI(t).Paths {
		for method, node := range methods {
			if method == "parameters" {
				continue
			}
			var op struct {
				Access string `yaml:"x-access"`
			}
			if err := node.Decode(&op); err != nil {
				t.Fatal(err)
			}
			described[strings.ToUpper(method)+" "+path] = op.Access
		}
	}
	for _, rt := range routes {
		key := rt.method + " " + rt.pattern
		if described[key] != names[rt.access] {
			t.Errorf("%s has access %s; openapi.yaml says %q", key, names[rt.access], described[key])
		}
		delete(described, key)
	}
	for key := range described {
		t.Errorf("openapi.yaml describes %s, which is no route", key)
	}
}

// Every schema has exactly the fields of its type, the optional ones not required.
func TestOpenAPISchemas(t *testing.T) {
	doc := readOpenAPI(t)
	types := []any{
		api.Error{}, api.Health{}, api.Info{}, api.NBDInfo{}, api.BackupRequest{}, api.DiskRequest{}, api.Blob{}, api.Backup{},
		api.BackupDisk{}, api.CloneRequest{}, api.Clone{}, api.CloneDisk{}, api.CloneClient{}, api.Receipt{}, api.Image{}, api.VM{}, api.VMDisk{}, api.Point{}, api.BlobInfo{}, api.Removed{}, api.Stats{},
		api.HoldRequest{}, api.LockRequest{}, api.Keep{}, api.Policy{}, api.VMPolicy{}, api.Usage{}, api.UsageReport{}, api.Chain{},
		api.ChainImage{}, api.MergeRequest{}, api.Merged{}, api.PruneRequest{}, api.PruneReport{}, api.PrunePoint{}, api.GCRequest{},
		api.GCResult{}, api.GCStatus{}, api.VerifyRequest{}, api.VerifyResult{}, api.ScrubStatus{}, api.DamageReport{}, api.DamagedPack{},
		api.AffectedImage{}, api.Job{}, api.Phase{}, api.SFTPInfo{}, api.SFTPConnection{}, api.BackupLogin{}, api.BackupFile{}, api.File{}, api.Progress{},
		api.CompressRequest{}, api.CompressResult{}, api.CompressStatus{},
	}
	for _, v := range types {
		ty := reflect.TypeOf(v)
		schema, ok := doc.Components.Schemas[ty.Name()]
		if !ok {
			t.Errorf("no schema %s", ty.Name())
			continue
		}
		delete(doc.Components.Schemas, ty.Name())
		for i := range ty.NumField() {
			name, options, _ := strings.Cut(ty.Field(i).Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			if _, ok := schema.Properties[name]; !ok {
				t.Errorf("schema %s lacks %s", ty.Name(), name)
			}
			delete(schema.Properties, name)
			if required := slices.Contains(schema.Required, name); required == strings.Contains(options, "omit") {
				t.Errorf("schema %s: %s is required: %v, but left out when empty: %v", ty.Name(), name, required, !required)
			}
		}
		for name := range schema.Properties {
			t.Errorf("schema %s has %s, which the type has not", ty.Name(), name)
		}
	}
	for name := range doc.Components.Schemas {
		t.Errorf("schema %s belongs to no type", name)
	}
}
