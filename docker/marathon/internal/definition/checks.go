package definition

var protocols = []string{"HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"}

func (a *App) readHealthChecks(o object) {
	list, _ := o.objects("healthChecks")
	for _, h := range list {
		c := HealthCheck{
			Protocol:               h.enum("protocol", "HTTP", protocols...),
			Path:                   h.str("path", ""),
			GracePeriodSeconds:     h.integer("gracePeriodSeconds", 300, 0, maxInt),
			IntervalSeconds:        h.integer("intervalSeconds", 60, 0, maxInt),
			TimeoutSeconds:         h.integer("timeoutSeconds", 20, 0, maxInt),
			MaxConsecutiveFailures: h.integer("maxConsecutiveFailures", 3, 0, maxInt),
			DelaySeconds:           h.integer("delaySeconds", 15, 0, maxInt),
		}
		if h.has("port") {
			port := h.integer("port", 0, 0, 65535)
			c.Port = &port
		}
		if h.has("portIndex") {
			i := h.integer("portIndex", 0, 0, maxInt)
			c.PortIndex = &i
		}
		if command, ok := h.object("command"); ok {
			if !command.has("value") {
				command.fail("value", "error.path.missing")
			}
			c.Command = &Command{command.str("value", "")}
		}
		switch c.Protocol {
		case "HTTP", "HTTPS":
			ignore := h.boolean("ignoreHttp1xx", false)
			c.IgnoreHTTP1xx = &ignore
			c.IPProtocol = h.enum("ipProtocol", "IPv4", "IPv4", "IPv6")
		case "COMMAND":
			c.Path, c.Port, c.PortIndex = "", nil, nil
		default:
			c.IPProtocol = h.enum("ipProtocol", "IPv4", "IPv4", "IPv6")
		}
		if c.Protocol != "COMMAND" && c.Port == nil && c.PortIndex == nil && a.NumPorts() > 0 {
			c.PortIndex = new(int)
		}
		a.HealthChecks = append(a.HealthChecks, c)
	}
}

func (a *App) readReadinessChecks(o object) {
	list, _ := o.objects("readinessChecks")
	for _, r := range list {
		c := ReadinessCheck{
			Name:                 r.str("name", "readinessCheck"),
			Protocol:             r.enum("protocol", "HTTP", "HTTP", "HTTPS"),
			Path:                 r.str("path", "/"),
			PortName:             r.str("portName", "http-api"),
			IntervalSeconds:      r.integer("intervalSeconds", 30, 1, maxInt),
			TimeoutSeconds:       r.integer("timeoutSeconds", 10, 1, maxInt),
			PreserveLastResponse: r.boolean("preserveLastResponse", false),
		}
		codes, _ := r.integers("httpStatusCodesForReady")
		if len(codes) == 0 {
			codes = []int{200}
		}
		c.HTTPStatusCodesForReady = codes
		a.ReadinessChecks = append(a.ReadinessChecks, c)
	}
}
