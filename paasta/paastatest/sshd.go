package paastatest

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// SSHTo starts an ssh server on 127.0.0.1:2222 whose users' Docker engine is the
// given one, and returns a directory with an ssh that takes every host for it.
func SSHTo(t *testing.T, engine string) (bin string) {
	t.Helper()
	server, client := Need(t, "sshd"), Need(t, "ssh")
	dir, bin := t.TempDir(), t.TempDir()
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/"+key).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd will not start without
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		dir + "/sshd_config": "ListenAddress 127.0.0.1:2222\nHostKey " + dir + "/host\nAuthorizedKeysFile " + dir + "/user.pub\nStrictModes no\n" +
			"PermitRootLogin yes\nUsePAM no\nPidFile none\nSetEnv DOCKER_HOST=" + engine + "\n",
		dir + "/ssh_config": "Host *\n  HostName 127.0.0.1\n  Port 2222\n  IdentityFile " + dir + "/user\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
		bin + "/ssh":        "#!/bin/sh\nexec " + client + " -F " + dir + "/ssh_config \"$@\"\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// By its full path: sshd starts itself anew for each connection.
	cmd := exec.Command(server, "-D", "-e", "-f", dir+"/sshd_config")
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("sshd said:\n%s", text)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:2222")
		if err == nil {
			conn.Close()
			return bin
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not answer: %v", err)
		}
	}
}
