#!/bin/bash
# Tool: oasdiff v1.38.0 (Go), which compares two OpenAPI documents and names the changes that break callers.
#
# People expect: it either understands a Swagger 2.0 document or refuses it.
# It does: it reads one as if it were OpenAPI 3. What version 2 writes elsewhere (the schema of a body parameter and of a response)
#   is not looked at: a response property that changes from integer to string and a property that becomes required in the request are
#   "No breaking changes to report", exit 0, although it adds that the documents differ. The same change, written as OpenAPI 3, is found.
# Why it matters here: a gate in a deploy pipeline that compares the interfaces of services whose specs are Swagger 2.0 would let everything
#   through. Documents are to be converted (kin-openapi's openapi2conv) before they are compared.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export GOBIN=$dir
go install github.com/oasdiff/oasdiff@v1.38.0 2>"$dir/install.log" || { cat "$dir/install.log" >&2; exit 1; }
"$dir/oasdiff" --version

# swagger FILE TYPE REQUIRED: a POST whose answer has an id of a type, and whose body requires something.
swagger() {
	cat >"$1" <<END
{"swagger": "2.0", "info": {"title": "users", "version": "1"}, "paths": {"/users": {"post": {
  "parameters": [{"in": "body", "name": "user", "schema": {"type": "object", "required": [$3], "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}}],
  "responses": {"200": {"description": "ok", "schema": {"type": "object", "properties": {"id": {"type": "$2"}}}}}}}}}
END
}
openapi() {
	cat >"$1" <<END
{"openapi": "3.0.3", "info": {"title": "users", "version": "1"}, "paths": {"/users": {"post": {
  "requestBody": {"content": {"application/json": {"schema": {"type": "object", "required": [$3], "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}}}},
  "responses": {"200": {"description": "ok", "content": {"application/json": {"schema": {"type": "object", "properties": {"id": {"type": "$2"}}}}}}}}}}}
END
}
compare() {
	local status=0
	"$dir/oasdiff" breaking --fail-on ERR "$1" "$2" >"$dir/out" 2>&1 || status=$?
	sed 's/^/    /' "$dir/out"
	echo "    exit $status"
	return $status
}
swagger "$dir/before.json" integer '"name"'
swagger "$dir/after.json" string '"name", "age"'
openapi "$dir/before3.json" integer '"name"'
openapi "$dir/after3.json" string '"name", "age"'

echo "as Swagger 2.0:"
compare "$dir/before.json" "$dir/after.json" || { echo "changed: the breaking changes are found now"; exit 1; }
grep -q 'No breaking changes' "$dir/out" || { echo "changed: another answer"; exit 1; }
echo "the same as OpenAPI 3.0:"
if compare "$dir/before3.json" "$dir/after3.json"; then
	echo "changed: not found in OpenAPI 3 either"
	exit 1
fi
