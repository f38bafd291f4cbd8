//! On a cluster: what is deployed there, and the source of a cluster against the API of another ringport.

mod chaos;
mod converge;
mod deployed;
mod events;
mod health;
mod laptop;
