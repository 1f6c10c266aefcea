//! The same over real servers, gateways and sockets.
