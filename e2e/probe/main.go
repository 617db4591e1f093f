// Command probe is what an attacker runs in a pod of the tests: it reads attempts, makes one after the other, and
// prints the result of each.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	patience  = 5 * time.Second
	enough    = 2000 // bytes of an answer that are printed
)

// attempt is a line of input: what to do, with what, as whom.
type attempt struct {
	Do, Target, As, Body string
}

// answer is a line of output. Done means that the attempt was not refused.
type answer struct {
	Done bool
	Text string
}

func main() {
	if len(os.Args) > 1 { // the pod waits for an exec
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM)
		<-end
		return
	}
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		var a attempt
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		done, text, err := a.try()
		if err != nil {
			done, text = false, err.Error()
		}
		if err := out.Encode(answer{done, text}); err != nil {
			os.Exit(1)
		}
	}
}

func (a attempt) try() (done bool, text string, err error) {
	switch a.Do {
	case "connect":
		network, address, _ := strings.Cut(a.Target, ":")
		conn, err := net.DialTimeout(network, address, patience)
		if err != nil {
			return false, "", err
		}
		return true, "connected", conn.Close()
	case "listen":
		listener, err := net.Listen("tcp", a.Target)
		if err != nil {
			return false, "", err
		}
		return true, "listening", listener.Close()
	case "write":
		return true, "written", os.WriteFile(a.Target, []byte(a.Body), 0)
	case "sniff":
		const everything = 0x0300 // ETH_P_ALL as the network has it
		socket, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, everything)
		if err != nil {
			return false, "", err
		}
		return true, "it hears all packets", syscall.Close(socket)
	case "abstract":
		return abstractSockets()
	}
	return a.ask()
}

// abstractSockets connects to each Unix socket that has a name but no file.
func abstractSockets() (done bool, text string, err error) {
	list, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return false, "", err
	}
	listed := 0
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[0] == "Num" { // the header
			continue
		}
		if listed++; !strings.HasPrefix(fields[7], "@") {
			continue
		}
		if conn, err := net.DialTimeout("unix", fields[7], patience); err == nil {
			return true, fields[7], conn.Close()
		}
	}
	return false, fmt.Sprintf("none of %d sockets", listed), nil
}

// ask makes an HTTP request. It does not check the server's certificate: an attacker does not mind.
func (a attempt) ask() (done bool, text string, err error) {
	req, err := http.NewRequest(a.Do, a.Target, strings.NewReader(a.Body))
	if err != nil {
		return false, "", err
	}
	transport, err := a.dress(req)
	if err != nil {
		return false, "", err
	}
	defer transport.CloseIdleConnections()
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		return false, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, enough))
	if err != nil {
		return false, "", err
	}
	text = resp.Status + " " + string(bytes.TrimSpace(body))
	return resp.StatusCode < http.StatusBadRequest, text, nil
}

// dress gives a request the identity that the attempt asks for.
func (a attempt) dress(req *http.Request) (*http.Transport, error) {
	transport := &http.Transport{TLSClientConfig: blind(), DisableKeepAlives: true}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, err
	}
	bearer := strings.TrimSpace(string(token))
	switch who, name, _ := strings.Cut(a.As, " "); who {
	case "nobody":
		bearer = ""
	case "itself":
	case "claims": // to be somebody, in the headers of a proxy
		bearer = ""
		req.Header.Set("X-Remote-User", name)
		req.Header.Set("X-Remote-Group", "system:masters")
	case "speaks": // for somebody
		req.Header.Set("Impersonate-User", name)
	case "changes": // the name in its token
		bearer, err = renamed(bearer, name)
	case "signs": // a certificate for itself
		bearer = ""
		err = forge(transport.TLSClientConfig, name)
	default:
		err = fmt.Errorf("as whom is %q?", a.As)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return transport, err
}

// renamed returns the token with another name in it.
func renamed(token, name string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("the token is not three parts")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var fields map[string]any
	if err := json.Unmarshal(claims, &fields); err != nil {
		return "", err
	}
	fields["sub"] = name
	claims, err = json.Marshal(fields)
	parts[1] = base64.RawURLEncoding.EncodeToString(claims)
	return strings.Join(parts, "."), err
}
