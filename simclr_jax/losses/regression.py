"""Losses that bring an output to its target, without negatives."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from simclr_jax.losses._checks import Scalar, check_pair, check_scalar
from simclr_jax.losses._rows import l2_normalize


def byol_regression(prediction: Array, target: Array) -> Array:
    """BYOL's loss: `2 - 2 cos(prediction, target)`, the squared distance on the sphere.

    Equation 2 of arXiv:2006.07733, which sums it over both directions. Gradients flow
    to both arguments: pass `lax.stop_gradient(target)` if the target needs none.

    Args:
      prediction: [N, D], the predictor's output for one view.
      target: [N, D], the target network's projection of the other view.

    Returns:
      [N], in [0, 4]; 2 where either row is zero.

    Example:
      >>> byol_regression(jnp.array([[2.0, 0], [1, 0]]), jnp.array([[1.0, 0], [0, 1]]))
      Array([0., 2.], dtype=float32)
    """
    check_pair("prediction", prediction, "target", target)
    cosine = jnp.sum(l2_normalize(prediction) * l2_normalize(target), axis=1)
    return 2.0 - 2.0 * cosine


def distillation(
    student_logits: Array, teacher_logits: Array, *, temperature: Scalar = 1.0
) -> Array:
    """SimCLRv2's distillation: `-sum_c softmax(teacher/t)_c log_softmax(student/t)_c`.

    Equation 2 of arXiv:2006.10029. The teacher is the label, so no gradient reaches it.
    There is no factor t^2. A class to which the teacher gives no probability adds
    nothing, even if the student's logit is -inf.

    Args:
      student_logits: [N, C], unnormalised; -inf rules a class out.
      teacher_logits: [N, C], likewise.
      temperature: t, for both; the paper has 1.0, and 0.1 for self-distillation.

    Returns:
      [N]; never below the teacher's entropy. inf if the student rules out what the
      teacher does not, or if float32 cannot hold the value; NaN if a row rules out all
      classes or has a NaN or +inf.

    Example:
      >>> distillation(jnp.zeros((1, 2)), jnp.zeros((1, 2))).tolist()  # log(2)
      [0.693...]
    """
    check_pair("student_logits", student_logits, "teacher_logits", teacher_logits)
    temperature = check_scalar("temperature", temperature)
    student = jax.nn.log_softmax(_divide_logits(student_logits, temperature))
    teacher = jax.nn.softmax(_divide_logits(teacher_logits, temperature))
    teacher = lax.stop_gradient(teacher)
    # 0 log 0 is 0. The inner where keeps 0 * inf out of the gradient.
    student = jnp.where(teacher == 0, 0, student)
    return -jnp.sum(teacher * student, axis=1)


def _divide_logits(logits: Array, temperature: Array) -> Array:
    """`logits / temperature` [N, C], less a number per row that keeps them in range.

    A softmax does not see that number. The largest logit becomes 0 before a temperature
    below 1 can make it infinite, and after one above 1 has made all of them small.
    """
    logits = jnp.asarray(logits, jnp.float32) / jnp.maximum(temperature, 1)
    largest = lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    return (logits - largest) / jnp.minimum(temperature, 1)
