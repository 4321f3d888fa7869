//! What a failed call says to whoever sent the message that a handler made it for: with these, `?` works in
//! handlers.

use std::error::Error;

use super::peer::GroupError;
use super::promise_error::PromiseError;
use super::server::{BroadcastError, DrainError};
use super::slot::Stopped;
use crate::{CommandError, InvalidName, SendError, Status, StatusCode};

fn status(code: StatusCode, error: &dyn Error) -> Status {
    Status::new(code, error.to_string())
}

impl From<CommandError> for Status {
    fn from(error: CommandError) -> Self {
        use CommandError as E;
        let code = match error {
            E::OutboxFull | E::PromisesFull | E::TableFull { .. } => StatusCode::RESOURCE_EXHAUSTED,
            E::UnknownSession | E::Closing => StatusCode::UNAVAILABLE,
            _ => StatusCode::INTERNAL,
        };
        status(code, &error)
    }
}

impl<M> From<SendError<M>> for Status {
    fn from(refused: SendError<M>) -> Self {
        refused.error.into()
    }
}

impl From<Stopped> for Status {
    fn from(stopped: Stopped) -> Self {
        status(StatusCode::UNAVAILABLE, &stopped)
    }
}

impl From<InvalidName> for Status {
    fn from(error: InvalidName) -> Self {
        status(StatusCode::INVALID_ARGUMENT, &error)
    }
}

/// A rejection is passed on as it is. [`StatusCode::UNAVAILABLE`] says that nothing was begun, so what may have been
/// is [`StatusCode::UNKNOWN`].
impl From<PromiseError> for Status {
    fn from(error: PromiseError) -> Self {
        let code = match error {
            PromiseError::Rejected(status) => return status,
            PromiseError::Refused(refused) => return refused.into(),
            PromiseError::TimedOut => StatusCode::DEADLINE_EXCEEDED,
            PromiseError::Cancelled => StatusCode::CANCELLED,
            PromiseError::Undecodable { .. } => StatusCode::INTERNAL,
            _ if error.maybe_delivered() => StatusCode::UNKNOWN,
            _ => StatusCode::UNAVAILABLE,
        };
        status(code, &error)
    }
}

macro_rules! refused_or_stopped {
    ($($error:ident),*) => {$(
        impl From<$error> for Status {
            fn from(error: $error) -> Self {
                match error {
                    $error::Refused(refused) => refused.into(),
                    $error::Stopped(stopped) => stopped.into(),
                }
            }
        }
    )*};
}

refused_or_stopped!(GroupError, BroadcastError, DrainError);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GroupName;
    use crate::driver::IntoAck;

    fn code(error: PromiseError) -> StatusCode {
        Status::from(error).code
    }

    #[test]
    fn what_may_have_been_begun_is_not_called_unavailable() {
        let lost = |maybe_delivered| code(PromiseError::Lost { maybe_delivered });
        assert_eq!(lost(true), StatusCode::UNKNOWN);
        assert_eq!(lost(false), StatusCode::UNAVAILABLE);
        assert_eq!(code(Stopped.into()), StatusCode::UNKNOWN);
        assert_eq!(code(PromiseError::TimedOut), StatusCode::DEADLINE_EXCEEDED);
    }

    #[test]
    fn a_rejection_is_passed_on() {
        let status = Status::new(StatusCode(1_007), "sold out");
        assert_eq!(Status::from(PromiseError::Rejected(status.clone())), status);
    }

    #[test]
    fn a_question_mark_is_all_that_a_handler_needs() {
        fn enter(room: &str) -> Result<(), Status> {
            GroupName::new(room)?;
            Err(GroupError::Refused(CommandError::TableFull {
                what: "the table of groups",
                field: "limits.groups",
            }))?
        }
        let codes = ["", "tea"].map(|room| enter(room).into_ack().unwrap_err().code);
        assert_eq!(
            codes,
            [StatusCode::INVALID_ARGUMENT, StatusCode::RESOURCE_EXHAUSTED]
        );
    }
}
