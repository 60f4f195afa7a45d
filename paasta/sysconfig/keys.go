package sysconfig

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A leaf is one key that a variable can set.
type leaf struct {
	path []string
	typ  reflect.Type
}

// env returns the name of the variable, e.g. PAASTA_DEPLOYD_LISTEN.
func (l leaf) env() string { return "PAASTA_" + strings.ToUpper(strings.Join(l.path, "_")) }

// checkVariable says what is wrong with the text of a variable that must be a
// number, a bool or a duration, which viper's decoder would say without its name.
func (l leaf) checkVariable() error {
	text := os.Getenv(l.env())
	if text == "" {
		return nil
	}
	var err error
	want := ""
	switch {
	case l.typ == reflect.TypeFor[time.Duration]():
		_, err = duration(text)
		want = "a duration (90s, 10m, …)"
	case l.typ.Kind() == reflect.Map, l.typ.Kind() == reflect.Slice:
		value, err := textHook(reflect.TypeFor[string](), l.typ, text)
		if err != nil {
			return fmt.Errorf("%s: %w", l.env(), err)
		}
		if _, words := value.([]string); words {
			return nil
		}
		r := reader{data: soaconfig.Data{File: l.env()}}
		r.value(value, l.typ, l.path)
		return errors.Join(r.mistakes...)
	case l.typ.Kind() == reflect.Int:
		_, err = strconv.Atoi(text)
		want = "an integer"
	case l.typ.Kind() == reflect.Bool:
		_, err = strconv.ParseBool(text)
		want = "true or false"
	case l.typ.Kind() == reflect.Float64:
		_, err = strconv.ParseFloat(text, 64)
		want = "a number"
	}
	if err != nil { // it would only repeat the text
		return fmt.Errorf("%s: is %q, want %s", l.env(), text, want)
	}
	return nil
}

// leaves lists the keys of a struct of settings, sections walked, in field order.
func leaves(t reflect.Type, path []string) []leaf {
	var all []leaf
	for f := range t.Fields() {
		p := append(slices.Clip(path), keyOf(f))
		if f.Type.Kind() == reflect.Struct {
			all = append(all, leaves(f.Type, p)...)
			continue
		}
		all = append(all, leaf{p, f.Type})
	}
	return all
}

// keyOf returns the key of a field as it is written in files.
func keyOf(f reflect.StructField) string {
	if tag := f.Tag.Get("mapstructure"); tag != "" {
		return tag
	}
	return strings.ToLower(f.Name)
}

// fieldsOf returns the types of a struct's fields by key.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		fields[keyOf(f)] = f.Type
	}
	return fields
}

// aliases are PaaSTA's names of keys that are called differently here.
var aliases = map[string][]string{
	"expected_slave_attributes": {"expected_agent_attributes"},
	"deployd_number_workers":    {"deployd", "workers"},
	"local_run_config":          {"local_run_cluster"}, // its default_cluster
}

// retired are keys that PaaSTA 0.86 knows and nothing reads here, with what became
// of them where there is something to say. They are no mistakes: /etc/paasta is
// there before we are.
var retired = map[string]string{
	"auth_certificate_ttl":                     "",
	"chronos_config":                           "",
	"cluster_autoscaler_max_decrease":          "",
	"cluster_autoscaler_max_increase":          "",
	"cluster_autoscaling_draining_enabled":     "",
	"cluster_autoscaling_resources":            "",
	"cluster_boost_enabled":                    "",
	"cluster_fqdn_format":                      "see api_endpoints",
	"deployd_big_bounce_deadline":              "see deployd.big_bounce_rate",
	"deployd_log_level":                        "deployd logs what an operator needs",
	"deployd_maintenance_polling_frequency":    "",
	"deployd_metrics_provider":                 "",
	"deployd_startup_bounce_deadline":          "see deployd.big_bounce_rate",
	"deployd_startup_oracle_enabled":           "",
	"deployd_worker_failure_backoff_factor":    "",
	"disabled_watchers":                        "",
	"enable_client_cert_auth":                  "see api_cert and api_key",
	"enable_nerve_readiness_check":             "",
	"filter_bogus_mesos_cputime_enabled":       "",
	"fsm_template":                             "",
	"hacheck_sidecar_image_url":                "",
	"kubernetes_custom_resources":              "",
	"kubernetes_use_hacheck_sidecar":           "",
	"log_reader":                               "the deploy log is in ZooKeeper",
	"log_writer":                               "the deploy log is in ZooKeeper",
	"maintenance_resource_reservation_enabled": "",
	"mesos_config":                             "see mesos_masters",
	"metrics_provider":                         "",
	"monitoring_config":                        "",
	"nerve_readiness_check_script":             "",
	"paasta_native":                            "",
	"pki_backend":                              "",
	"previous_marathon_servers":                "deployd drives one Marathon: delete its old apps there by hand once their services run on the new one",
	"register_k8s_pods":                        "",
	"register_marathon_services":               "healthy tasks are always registered",
	"register_native_services":                 "",
	"remote_run_config":                        "",
	"resource_pool_settings":                   "",
	"secret_provider":                          "",
	"sensu_host":                               "",
	"sensu_port":                               "",
	"slack":                                    "",
	"spark_run_config":                         "",
	"synapse_haproxy_url_format":               "agents announce themselves in ZooKeeper",
	"synapse_host":                             "agents announce themselves in ZooKeeper",
	"synapse_port":                             "see smartstack.stats_listen",
	"taskproc":                                 "",
	"tron":                                     "",
	"vault_cluster_map":                        "",
	"vault_environment":                        "",
}

// defaults are the values of keys that nobody set, by dotted path. What is not
// here is empty.
var defaults = map[string]any{
	"soa_dir":                    "/nail/etc/services",
	"auto_hostname_unique_size":  -1,
	"location_types":             []string{"ecosystem", "superregion", "region", "habitat"},
	"drain_grace":                2 * time.Second,
	"deployd.listen":             "127.0.0.1:5055",
	"deployd.workers":            4,
	"deployd.resync":             time.Minute,
	"deployd.git_poll":           time.Minute,
	"deployd.git_poll_hooked":    10 * time.Minute,
	"deployd.deployments":        "tags",
	"deployd.big_bounce_rate":    6,
	"deployd.drain_timeout":      time.Minute,
	"api.listen":                 "127.0.0.1:5054",
	"smartstack.state_dir":       "/var/lib/paasta/smartstack",
	"smartstack.listen":          "127.0.0.1:3213",
	"smartstack.stats_listen":    "127.0.0.1:3212",
	"smartstack.bind_addresses":  []string{"169.254.255.254", "127.0.0.1"},
	"smartstack.setup_address":   true,
	"smartstack.haproxy":         "haproxy",
	"smartstack.services_dir":    "/etc/paasta/services.d",
	"smartstack.maxconn":         8000,
	"smartstack.check_interval":  10 * time.Minute,
	"smartstack.check_fastinter": 30 * time.Second,
	"smartstack.nerve":           true,
	"smartstack.log_socket":      true,
	"smartstack.removal_floor":   0.5,
	"smartstack.removal_window":  10 * time.Second,

	"smartstack.reload.protect":         "auto",
	"smartstack.reload.min_interval":    time.Second,
	"smartstack.reload.hold":            2 * time.Second,
	"smartstack.reload.hard_stop_after": 10 * time.Minute,
}
