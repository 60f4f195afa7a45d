package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

func init() {
	// The lines of a log are validated one by one, below.
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.PlainBodyDecoder)
}

func loadDocument(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEveryRouteIsDocumentedAndTheOtherWayRound(t *testing.T) {
	t.Parallel()
	var documented, served []string
	for path, item := range loadDocument(t).Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	for _, rt := range routes {
		served = append(served, rt.method+" "+strings.TrimSuffix(rt.path, "{$}"))
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented:\n%q\nserved:\n%q", documented, served)
	}
}

// validated asks the API and holds the answer against the document, of which
// path is the template.
func (w *world) validated(doc *openapi3.T, method, path, address string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.url+address, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	item := doc.Paths.Value(path)
	if item == nil || item.GetOperation(method) == nil {
		w.t.Fatalf("%s %s is not in the document", method, path)
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)},
		},
		Status: resp.StatusCode, Header: resp.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if resp.Header.Get("Content-Type") == "application/x-ndjson" {
		schema := item.GetOperation(method).Responses.Value("200").Value.Content["application/x-ndjson"].Schema.Value
		for line := range bytes.Lines(body) {
			if err := validateJSON(schema, line); err != nil {
				w.t.Errorf("%s %s: %v\n%s", method, address, err, line)
			}
		}
		return resp.StatusCode, string(body)
	}
	input.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(w.t.Context(), input); err != nil {
		w.t.Errorf("%s %s: the answer is not what the document says: %v\n%s", method, address, err, body)
	}
	return resp.StatusCode, string(body)
}

func validateJSON(schema *openapi3.Schema, line []byte) error {
	var v any
	if err := json.Unmarshal(line, &v); err != nil {
		return err
	}
	return schema.VisitJSON(v, openapi3.EnableFormatValidation())
}
