//! One life of a container in the monitor's loop: what it writes goes to the log and to whoever is attached; its end, calls, health
//! checks and signals are waited for at once.
//!
//! Read: poll(2), pipe(7), pty(7).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::control::{self, Ask, Tell};
use super::desk::Client;
use super::life::Life;
use super::{Monitor, Status, record};
use crate::engine::request::Namespace;
use crate::engine::{events, log, stop};
use crate::error::{Class, Error};
use crate::runtime::{change as runtime_change, lifecycle};
use crate::sys::process::{self, Exit};
use crate::sys::{fd, watch};

/// What poll(2) said is ready.
#[derive(Debug, Clone, Copy)]
enum Ready {
    Call,
    Said(usize),
    Room(usize, usize),
    Source(log::Stream),
    Ended,
    OutOfMemory,
    Signal,
    Health,
    Network,
}

impl Monitor<'_> {
    /// Looks after one life until it has ended and all that it wrote is here.
    pub fn serve(&mut self, life: &mut Life) -> Exit {
        let mut ended = false;
        let mut last_word = Instant::now();
        let mut end = None;
        loop {
            for ready in self.ready(Some(life), ended) {
                if matches!(ready, Ready::Source(_)) {
                    last_word = Instant::now();
                }
                match ready {
                    Ready::Ended => {
                        ended = true;
                        if self.definition.request.pid == Namespace::Host {
                            // Without a PID namespace of its own others live on, and hold its streams.
                            let _ = lifecycle::kill(&self.store, &self.id, libc::SIGKILL, true);
                        }
                        last_word = Instant::now();
                    }
                    other => self.handle(other, life, ended),
                }
            }
            self.clients.retain(|client| !client.is_done());
            self.on_time();
            life.net.on_time();
            // Whoever else has got hold of its pipes (passed through a socket, say) does not keep it from ending.
            let silent = last_word.elapsed() > Duration::from_secs(2);
            let late = ended && end.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(10);
            if ended && (life.sources.is_empty() || silent || late) {
                break;
            }
        }
        let _ = self.log.end(log::Stream::Stdout);
        let _ = self.log.end(log::Stream::Stderr);
        process::wait(life.pidfd.as_fd()).unwrap_or(Exit::Code(255))
    }

    fn handle(&mut self, ready: Ready, life: &mut Life, ended: bool) {
        match ready {
            Ready::Call => self.answer_call(),
            Ready::Said(at) => self.hear(at, Some(life)),
            Ready::Room(client, out) => {
                if self.clients.get_mut(client).is_some_and(|client| client.flush(out)) {
                    self.desert(life, None);
                }
            }
            Ready::Source(stream) => self.read(stream, life),
            Ready::OutOfMemory => {
                if let Some(oom) = &mut life.oom {
                    watch::drain(oom.as_fd());
                    life.oom_killed |= matches!(oom.look(), Some(Some(_)));
                }
            }
            Ready::Signal => {
                while let Some(signal) = self.signals.next() {
                    if matches!(signal, libc::SIGTERM | libc::SIGINT) && !ended && self.killing_at.is_none() {
                        self.stop_gently(life);
                    }
                }
            }
            Ready::Network => life.net.ready(),
            Ready::Health | Ready::Ended => {}
        }
    }

    /// Whoever ends the monitor (the machine goes down, say) means the container: it is stopped as by `stop`.
    fn stop_gently(&mut self, life: &Life) {
        let Ok(record) = record::load(self.home, &self.id) else { return };
        let _ = process::pidfd_send_signal(life.pidfd.as_fd(), stop::stop_signal(&record).unwrap_or(libc::SIGTERM));
        self.killing_at = Some(Instant::now() + stop::patience(&record, None));
        // What stands still can't hear.
        if record.status() == Status::Paused {
            let _ = runtime_change::pause(&self.store, &self.id, false);
        }
    }

    fn on_time(&mut self) {
        if self.killing_at.is_some_and(|time| Instant::now() >= time) {
            let _ = lifecycle::kill(&self.store, &self.id, libc::SIGKILL, false);
            self.killing_at = Some(Instant::now() + Duration::from_secs(1));
        }
        if let Some(health) = &mut self.health
            && health.step(&self.store, &self.id)
        {
            let now = health.now.clone();
            let mut is_news = false;
            let change = |record: &mut record::Record| {
                let before = record.state.health.replace(now);
                is_news = before.map(|before| before.status) != record.state.health.as_ref().map(|now| now.status.clone());
            };
            if let Ok(record) = record::change(self.home, &self.id, change)
                && is_news
            {
                events::container(self.home, &record, &format!("health_status: {}", health.now.status), &[]);
            }
        }
    }

    /// Reads once what the container has written, and gives it to the log and to all who are attached.
    fn read(&mut self, stream: log::Stream, life: &mut Life) {
        let Some(source) = life.sources.iter().find(|source| source.stream == stream) else { return };
        let mut chunk = [0u8; 1 << 16];
        match nix::unistd::read(&source.from, &mut chunk) {
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
            // The end; EIO: the last slave of a terminal is closed.
            Ok(0) | Err(_) => life.sources.retain(|source| source.stream != stream),
            Ok(length) => {
                // A full disk loses a line, not a container: the log says so itself when there is room again.
                let _ = self.log.write(stream, &chunk[..length]);
                let mut deserted = false;
                for client in &mut self.clients {
                    deserted |= client.put(stream, &chunk[..length]);
                }
                if deserted {
                    self.desert(life, Some(stream));
                }
            }
        }
    }

    /// Nobody wants what the container shows: its pipe closes, and it learns it by SIGPIPE, as it would without us; a terminal without
    /// its master hangs up.
    fn desert(&mut self, life: &mut Life, stream: Option<log::Stream>) {
        life.sources.retain(|source| stream.is_some_and(|stream| source.stream != stream));
        if life.master.take().is_some() {
            life.input = None;
            life.sources.clear();
        }
    }

    /// Somebody new. Whoever doesn't hear what we say must not keep us from all others.
    fn answer_call(&mut self) {
        if let Ok(socket) = fd::accept(self.listener.as_fd())
            && fd::set_nonblocking(socket.as_fd()).is_ok()
        {
            self.clients.push(Client::new(socket));
        }
    }

    /// One message of a client.
    fn hear(&mut self, at: usize, life: Option<&mut Life>) {
        let Some(client) = self.clients.get_mut(at) else { return };
        match (control::receive::<Ask>(client.socket.as_fd()), life) {
            (Ok(Some((Ask::Attach(wants), _))), Some(life)) => {
                if let Err(e) = client.attach(&wants, life, false) {
                    let _ = control::send(client.socket.as_fd(), &Tell::Failed(Box::new(e)), &[]);
                }
            }
            (Ok(Some((Ask::Attach(_), _))), None) => {
                let why = Error::new(Class::Conflict, "attach to the container", "it is restarting: wait until it runs");
                let _ = control::send(client.socket.as_fd(), &Tell::Failed(Box::new(why)), &[]);
            }
            // The record is read when it is needed; this only woke us.
            (Ok(Some((Ask::Wake, _))), _) => {}
            (Ok(Some((Ask::Networks, _))), Some(life)) => {
                let answer = match life.net.changed(self.home, &self.id, &self.definition, life.init.pid) {
                    Ok(()) => Tell::Ports(life.net.ports()),
                    Err(e) => Tell::Failed(Box::new(e)),
                };
                let _ = control::send(client.socket.as_fd(), &answer, &[]);
            }
            // Its next life finds them.
            (Ok(Some((Ask::Networks, _))), None) => drop(control::send(client.socket.as_fd(), &Tell::Done, &[])),
            (Ok(Some((Ask::HangUp, _))), Some(life)) if client.sits_in_front() => self.desert(life, None),
            (Ok(Some((Ask::HangUp, _))), _) => {}
            (Ok(None) | Err(_), _) => drop(self.clients.remove(at)),
        }
    }

    /// What there is to do without a container.
    pub fn let_them_read(&mut self, left: Option<Duration>) {
        for ready in self.ready_within(None, false, left) {
            match ready {
                Ready::Call => self.answer_call(),
                Ready::Said(at) => self.hear(at, None),
                Ready::Room(client, out) => drop(self.clients.get_mut(client).map(|client| client.flush(out))),
                _ => {}
            }
        }
        self.clients.retain(|client| !client.is_done());
    }

    fn ready(&self, life: Option<&Life>, ended: bool) -> Vec<Ready> {
        let health = self.health.as_ref().map(|health| health.due());
        let soon = ended.then(|| Instant::now() + Duration::from_millis(100));
        let network = life.and_then(|life| life.net.due());
        let next = [health, self.killing_at, soon, network].into_iter().flatten().min();
        let left = next.map(|time| time.saturating_duration_since(Instant::now()));
        self.ready_within(life, ended, left)
    }

    /// Waits until something can be done. In the order of the answer indices stay true: what is removed comes last.
    fn ready_within(&self, life: Option<&Life>, ended: bool, left: Option<Duration>) -> Vec<Ready> {
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut means = vec![Ready::Call, Ready::Signal];
        let mut wait = |fd, flags, meaning| {
            fds.push(PollFd::new(fd, flags));
            means.push(meaning);
        };
        if let Some(life) = life {
            if !ended {
                wait(life.pidfd.as_fd(), PollFlags::POLLIN, Ready::Ended);
                life.oom.iter().for_each(|oom| wait(oom.as_fd(), PollFlags::POLLIN, Ready::OutOfMemory));
                let health = self.health.iter().flat_map(|health| health.waits_for());
                health.for_each(|fd| wait(fd, PollFlags::POLLIN, Ready::Health));
            }
            life.net.waits().into_iter().for_each(|(fd, flags)| wait(fd, flags, Ready::Network));
            for source in &life.sources {
                // After its end there is at most a pipe's content left: nobody needs to be held back.
                if ended || self.clients.iter().all(|client| client.keeps_up(source.stream)) {
                    wait(source.from.as_fd(), PollFlags::POLLIN, Ready::Source(source.stream));
                }
            }
        }
        for (at, client) in self.clients.iter().enumerate().rev() {
            client.waiting().collect::<Vec<_>>().into_iter().rev().for_each(|(out, fd)| wait(fd, PollFlags::POLLOUT, Ready::Room(at, out)));
            wait(client.socket.as_fd(), PollFlags::POLLIN, Ready::Said(at));
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX));
        if poll(&mut fds, timeout).is_err() {
            return Vec::new();
        }
        fds.iter().zip(means).filter(|(fd, _)| fd.revents().is_some_and(|events| !events.is_empty())).map(|(_, meaning)| meaning).collect()
    }
}
