-- Written by paasta smartstack: chaos and fixed_delay for HTTP.
core.register_action("paasta_delay", { "http-req" }, function(txn, ms) core.msleep(tonumber(ms)) end, 1)
